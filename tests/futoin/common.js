'use strict';

/**
 * What `futoin-database` reads from its environment.
 * @param {string} name - of the interface, such as evt or evtdwh
 * @param {object} settings - TYPE, HOST, PORT, SOCKET, USER, PASS, DB, MAXCONN
 * @returns {object} the same under the names that it expects
 */
const databaseConfig = ( name, settings ) => Object.fromEntries(
    Object.entries( settings ).map(
        ( [ key, value ] ) => [ `DB_${name.toUpperCase()}_${key}`, `${value}` ] )
);

/**
 * The end of steps that must not fail.
 * @param {AsyncSteps} as - the steps
 * @param {string} err - their error
 */
const fail = ( as, err ) => {
    console.error( err, as.state.error_info, as.state.last_exception );
    process.exit( 1 );
};

/**
 * Rids the original's client of its own limits: ten calls a second.
 * @param {AdvancedCCM} ccm - where it calls from
 */
const unlimit = ( ccm ) => ccm.limitZone( 'default', {
    concurrent: 1024,
    max_queue: 65536,
    rate: 1e9,
    period_ms: 1e3,
    burst: null,
} );

module.exports = { databaseConfig, fail, unlimit };
