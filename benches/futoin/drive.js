'use strict';

// The original's client as a load: one scenario against one server, whoever
// made it. What it measured goes to standard output as JSON.
//
// node drive.js SETTINGS, which is JSON:
//   do           add, latency or drain
//   endpoint     of the server, over WebSocket
//   credentials  of a user
//   add:         callers, seconds
//   latency:     rate (events a second), seconds
//   drain:       events (that are there)

const $as = require( 'futoin-asyncsteps' );
const { AdvancedCCM } = require( 'futoin-invoker' );
const GenFace = require( 'futoin-eventstream/GenFace' );
const ReliableReceiver = require( 'futoin-eventstream/ReliableReceiver' );
const { fail, unlimit } = require( '../../tests/futoin/common' );

const settings = JSON.parse( process.argv[2] );

/** Of every event: 200 bytes of JSON, as in all figures. */
const data = ( number ) => ( { n: `${number}`.padStart( 10, '0' ), pad: 'x'.repeat( 173 ) } );

/** What the original needs after a receiver has connected, lest it loses events. */
const SETTLING_MS = 1000;

/** An event that takes longer has been lost; the original does that. */
const PATIENCE_MS = 15e3;

const now = () => performance.now();

const finish = ( result ) => {
    console.log( JSON.stringify( result ) );
    process.exit( 0 );
};

const quantile = ( sorted, share ) =>
    sorted[Math.min( sorted.length - 1, Math.floor( sorted.length * share ) )];

const quantiles = ( values ) => {
    const sorted = values.sort( ( a, b ) => a - b );
    return { p50: quantile( sorted, 0.5 ), p99: quantile( sorted, 0.99 ), count: sorted.length };
};

const generator = ( as, then ) => {
    const ccm = new AdvancedCCM();
    unlimit( ccm );
    GenFace.register( as, ccm, 'gen', settings.endpoint, settings.credentials );
    as.add( ( as ) => then( as, ccm.iface( 'gen' ) ) );
};

/** A receiver that hands its groups to `take`, and says when it is connected. */
const receive = ( take, ready ) => {
    const receiver = new class extends ReliableReceiver {
        _onEvents( as, events ) {
            take( events );
        }
    }( new AdvancedCCM() );
    receiver.once( 'ready', ready );
    receiver.on( 'workerError', ( ...error ) => {
        console.error( error );
        process.exit( 1 );
    } );
    receiver.start( settings.endpoint, settings.credentials, { component: 'LOAD' } );
};

/** So many callers, each with its next call as soon as the last is answered. */
const add = ( as ) => generator( as, ( as, gen ) => {
    const times = [];
    const begun = now();
    const end = begun + settings.seconds * 1e3;
    const callers = as.parallel();

    for ( let i = 0; i < settings.callers; ++i ) {
        callers.add( ( as ) => as.loop( ( as ) => {
            const called = now();

            if ( called >= end ) {
                as.break();
            }

            gen.addEvent( as, 'LOAD', data( times.length ) );
            as.add( ( as ) => {
                times.push( now() - called );
            } );
        } ) );
    }

    as.add( ( as ) => finish( {
        rate: times.length / ( now() - begun ) * 1e3,
        ...quantiles( times ),
    } ) );
} );

/** Events at a fixed rate, from the answer of `addEvent` to the receiver. */
const latency = ( as ) => generator( as, ( as, gen ) => {
    const { rate, seconds } = settings;
    const total = rate * seconds;
    const added = new Map();
    const arrived = new Map();

    let failed = 0;

    const conclude = () => {
        const seen = [ ...added ].filter( ( [ id ] ) => arrived.has( id ) );
        finish( {
            failed,
            lost: added.size - seen.length,
            // The receiver may well have it before the adder is answered.
            ...quantiles( seen.map( ( [ id, at ] ) => Math.max( 0, arrived.get( id ) - at ) ) ),
        } );
    };

    const concludeWhenComplete = () => {
        if ( added.size + failed === total && arrived.size >= added.size ) {
            conclude();
        }
    };

    const addOne = ( number ) => $as().add(
        ( as ) => {
            gen.addEvent( as, 'LOAD', data( number ) );
            as.add( ( as, id ) => {
                added.set( id, now() );
                concludeWhenComplete();
            } );
        },
        ( as, _error ) => {
            // The original gives up after five seconds when it is behind.
            ++failed;
            concludeWhenComplete();
            as.success();
        }
    ).execute();

    receive(
        ( events ) => {
            for ( const { id } of events ) {
                // Of a redelivery the first counts.
                if ( !arrived.has( id ) ) {
                    arrived.set( id, now() );
                }
            }

            concludeWhenComplete();
        },
        () => setTimeout( () => {
            // An open loop: events are due whether or not others have arrived.
            const begun = now();
            let next = 0;
            const timer = setInterval( () => {
                while ( next < total && begun + next / rate * 1e3 <= now() ) {
                    addOne( next++ );
                }

                if ( next === total ) {
                    clearInterval( timer );
                    setTimeout( conclude, PATIENCE_MS );
                }
            }, 1 );
        }, SETTLING_MS )
    );
    as.waitExternal();
} );

/** A backlog, from the first group to the last. */
const drain = ( as ) => {
    let seen = 0;
    let begun = null;
    receive( ( events ) => {
        begun = begun || now();
        seen += events.length;

        if ( seen >= settings.events ) {
            finish( { rate: seen / ( now() - begun ) * 1e3, count: seen } );
        }
    }, () => {} );
    as.waitExternal();
};

$as().add( { add, latency, drain }[settings.do], fail ).execute();
