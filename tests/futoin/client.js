'use strict';

// The original's clients, driven by a test: each line of standard input is an
// order in JSON, each line of standard output the answer to one, or something
// that a receiver says. The process ends with its standard input.
//
//   > {"id":1,"order":"face","args":{"name":"gen","kind":"gen","endpoint":"…"}}
//   < {"id":1,"result":null}
//   > {"id":2,"order":"call","args":{"face":"gen","method":"addEvent","args":["A",1]}}
//   < {"id":2,"result":"1"}
//   < {"receiver":"r","says":"events","about":[{"id":"1",…}]}

const readline = require( 'readline' );
const $as = require( 'futoin-asyncsteps' );
const { AdvancedCCM } = require( 'futoin-invoker' );
const DBAutoConfig = require( 'futoin-database/AutoConfig' );
const GenFace = require( 'futoin-eventstream/GenFace' );
const PollFace = require( 'futoin-eventstream/PollFace' );
const PushFace = require( 'futoin-eventstream/PushFace' );
const DBGenFace = require( 'futoin-eventstream/DBGenFace' );
const LiveReceiver = require( 'futoin-eventstream/LiveReceiver' );
const ReliableReceiver = require( 'futoin-eventstream/ReliableReceiver' );
const DBEventArchiver = require( 'futoin-eventstream/DBEventArchiver' );
const { databaseConfig, unlimit } = require( './common' );

const FACES = { gen: GenFace, poll: PollFace, push: PushFace, dbgen: DBGenFace };
const RECEIVERS = { live: LiveReceiver, reliable: ReliableReceiver, archiver: DBEventArchiver };

/** What the process holds. One CCM shares a socket between its faces. */
const ccms = new Map();
const faces = new Map();
const receivers = new Map();

const say = ( what ) => process.stdout.write( `${JSON.stringify( what )}\n` );

const ccmOf = ( name = 'main' ) => {
    if ( !ccms.has( name ) ) {
        const ccm = new AdvancedCCM();
        unlimit( ccm );
        ccms.set( name, ccm );
    }

    return ccms.get( name );
};

/** A receiver whose handler does with each group what the test says. */
const obedient = ( Receiver, name, script ) => class extends Receiver {
    _onEvents( as, events ) {
        const { act = 'take' } = script.shift() || {};
        say( { receiver: name, says: 'events', about: events } );

        if ( act === 'fail' ) {
            as.error( 'HandlerFailed' );
        } else if ( act === 'hold' ) {
            this.held = as;
            as.waitExternal();
        }
    }
};

const ORDERS = {
    /** Registers an interface of the server with a CCM. */
    face( as, { name, kind, ccm, endpoint, credentials, options = {} } ) {
        const registered = `${name}-face`;
        FACES[kind].register( as, ccmOf( ccm ), registered, endpoint, credentials, options );
        as.add( ( as ) => {
            const face = ccmOf( ccm ).iface( registered );
            face.on( 'disconnect', () => say( { receiver: name, says: 'disconnect' } ) );
            faces.set( name, face );
        } );
    },

    /** Calls a method of a face. */
    call( as, { face, method, args = [] } ) {
        faces.get( face )[method]( as, ...args );
    },

    /** Adds so many events, with so many calls at a time; their ids. */
    add( as, { face, type, count, callers = 1 } ) {
        const ids = [];
        let next = 0;
        const adders = as.parallel();

        for ( let i = 0; i < callers; ++i ) {
            adders.add( ( as ) => as.loop( ( as ) => {
                if ( next >= count ) {
                    as.break();
                }

                faces.get( face ).addEvent( as, type, { n: next++ } );
                as.add( ( as, id ) => {
                    ids.push( id );
                } );
            } ) );
        }

        as.add( ( as ) => as.success( ids ) );
    },

    /** Configures a database for `transaction` or an archiver. */
    database( as, { ccm, name, settings } ) {
        DBAutoConfig( as, ccmOf( ccm ), { [name]: {} }, databaseConfig( name, settings ) );
    },

    /** A row of the application and events in one transaction of `database`. */
    transaction( as, { ccm, face, table, row, events, then } ) {
        const xfer = ccmOf( ccm ).db( 'evt' ).newXfer();
        xfer.insert( table ).set( row );

        for ( const { type, data } of events ) {
            faces.get( face ).addXferEvent( xfer, type, data );
        }

        if ( then === 'fail' ) {
            // No row is affected, so the transaction is rolled back.
            xfer.update( table, { affected: 1 } ).set( row ).where( '1 = 0' );
        }

        xfer.execute( as );
        as.add( ( as ) => as.success( null ) );
    },

    /** Starts a receiver; `script` says what its handler does with the groups. */
    receive( as, { name, kind, ccm = name, endpoint, credentials, options, script = [] } ) {
        const Receiver = kind === 'archiver'
            ? DBEventArchiver : obedient( RECEIVERS[kind], name, script );
        const it = new Receiver( ccmOf( ccm ) );

        for ( const says of [ 'ready', 'workerError', 'receiverError' ] ) {
            it.on( says, ( error, info ) => say( { receiver: name, says, about: [ error, info ] } ) );
        }

        if ( kind === 'archiver' ) {
            it.on( 'processedEvents', ( about ) => say( { receiver: name, says: 'archived', about } ) );
        }

        it.start( endpoint, credentials, options );
        receivers.set( name, it );
    },

    /** Ends the handler that holds a group, well or with an error. */
    release( as, { name, error } ) {
        const { held } = receivers.get( name );

        try {
            error ? held.error( error ) : held.success();
        } catch ( e ) {
            // Steps are ended with an error by an exception.
        }
    },

    /** Ends a receiver. */
    stop( as, { name } ) {
        receivers.get( name ).stop();
        receivers.delete( name );
    },

    /** Closes the sockets of a CCM. */
    close( as, { ccm } ) {
        ccmOf( ccm ).close();
        ccms.delete( ccm );
    },
};

const obey = ( { id, order, args } ) => $as().add(
    ( as ) => {
        ORDERS[order]( as, args );
        as.add( ( as, result = null ) => say( { id, result } ) );
    },
    ( as, error ) => {
        const { error_info, last_exception } = as.state;
        say( { id, error, about: `${error_info || ( last_exception && last_exception.message )}` } );
        as.success();
    }
).execute();

readline.createInterface( { input: process.stdin } )
    .on( 'line', ( line ) => obey( JSON.parse( line ) ) )
    .on( 'close', () => process.exit( 0 ) );
