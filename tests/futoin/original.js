'use strict';

// The original's server, as its README has it: `DBServiceApp` on an HTTP
// server, with `futoin.evt.push` under /ftn. One executor cannot serve
// `futoin.evt.poll` beside it, so that is a second one, under /poll.
//
// node original.js SETTINGS, which is JSON:
//   port        to listen on; 0 is any
//   database    DB_EVT_… of futoin-database, without the prefix
//   users       [[name, secret, "clear" or "base64"]]; ids are 1, 2, …
//   options     of its services
// It says {"port": …} when it is ready, and ends with its standard input.

const http = require( 'http' );
const $as = require( 'futoin-asyncsteps' );
const { AdvancedCCM } = require( 'futoin-invoker' );
const Executor = require( 'futoin-executor/NodeExecutor' );
const LegacySecurityProvider = require( 'futoin-executor/LegacySecurityProvider' );
const DBAutoConfig = require( 'futoin-database/AutoConfig' );
const DBServiceApp = require( 'futoin-eventstream/DBServiceApp' );
const DBGenService = require( 'futoin-eventstream/DBGenService' );
const DBPollService = require( 'futoin-eventstream/DBPollService' );
const { databaseConfig, fail } = require( './common' );

const { port = 0, database, users, options = {} } = JSON.parse( process.argv[2] );

const complain = ( ...about ) => console.error( about );

const serve = ( as, server ) => {
    const ccm = new AdvancedCCM();
    DBAutoConfig( as, ccm, { evt: {} }, databaseConfig( 'evt', database ) );
    const securityProvider = new LegacySecurityProvider( as, ccm );

    for ( const [ name, secret, form ] of users ) {
        securityProvider.addUser(
            name, form === 'base64' ? Buffer.from( secret, 'base64' ) : secret, {} );
    }

    const executor = ( httpPath ) => {
        const it = new Executor( ccm, {
            httpServer: server,
            httpPath,
            secureChannel: true,
            securityProvider,
        } );
        it.on( 'notExpected', complain );
        return it;
    };
    const push = executor( '/ftn' );
    const poll = executor( '/poll' );

    new DBServiceApp( as, {
        ccm,
        executor: push,
        evtOptions: options,
    } );
    as.add( ( as ) => {
        DBGenService.register( as, poll, {} );
        DBPollService.register( as, poll, {} );
    } );
};

const server = http.createServer();

$as().add(
    ( as ) => {
        serve( as, server );
        as.add( ( as ) => server.listen( port, '127.0.0.1', () => {
            console.log( JSON.stringify( { port: server.address().port } ) );
        } ) );
    },
    fail
).execute();

process.stdin.on( 'end', () => process.exit( 0 ) ).resume();
