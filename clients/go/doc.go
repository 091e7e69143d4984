// Package eventstream is the client of FutoIn EventStream, a transactional
// event stream: an event is inserted in the same database transaction as the
// data it tells of, and every registered component gets every event it wants,
// in the order of ids, at least once.
//
// # Adding
//
// [Engine.AddEvent] inserts an event in a transaction of database/sql,
// [AddEventPgx] in one of pgx; no service is involved. [Client.AddEvent] and
// its kin add through the service.
//
// # Receiving
//
// [Client.Receive] makes a [ReliableReceiver]: it registers, subscribes, hands
// events to a handler in order, acknowledges what was handled, reconnects, and
// stands by where another receiver of the same component took over.
// [Client.Live] makes a [LiveReceiver], which gets what happens from now on and
// counts what it missed. [Client.Poll] reads without a stream.
//
// # Errors
//
// What the service refused, or what was refused before anything was sent, is
// an [*Error]; an event that its handler could not handle is a [*HandlerError].
// Both are found by errors.As.
package eventstream
