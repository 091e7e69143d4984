//! Every bound of the service, each with the reason for its number.
//!
//! A bound belongs here as soon as a peer, an application or a slow database
//! could otherwise make something grow: memory, a wait, a batch, a count.
//! Those that an operator may change are the defaults and edges of an option
//! in `config`; the others are constants because nobody would gain by
//! changing them. This file holds numbers only and never reads anything.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---------------------------------------------------------------- events

/// Bytes of one event's data. Half of [`MAX_MESSAGE_BYTES`], so that any event
/// fits a message alone together with its envelope.
pub const MAX_EVENT_BYTES: usize = 8 * MIB;

/// Bytes of one gRPC message, both ways. gRPC's own default of 4 MiB would
/// make an event that was accepted undeliverable.
pub const MAX_MESSAGE_BYTES: usize = 16 * MIB;

/// Events of one `AddEvents`. FTN18 reads at most as many at once, so an
/// atomic batch can always be seen in one answer.
pub const MAX_BATCH_EVENTS: usize = 1000;

/// Events of one pushed group: FTN18's own bound for an answer.
pub const MAX_GROUP_EVENTS: usize = 1000;

/// Bytes of one pushed group unless the subscriber asks for another size.
/// Big enough to hide the cost per message, small enough that the first event
/// of a backlog is not kept waiting for the last.
pub const DEFAULT_GROUP_BYTES: usize = MIB;

/// The largest group a subscriber may ask for: one event of
/// [`MAX_EVENT_BYTES`] travels alone in any case.
pub const MAX_GROUP_BYTES: usize = 8 * MIB;

/// Letters of a component's name: FTN18.
pub const MAX_COMPONENT: usize = 16;

/// Letters of a user's name: `ident` is `VARCHAR(64)` and holds
/// `{user}:{component}`.
pub const MAX_USER: usize = 47;

/// Letters of a label that a subscriber gives itself (host or pod name). Two
/// DNS labels and a suffix; it is shown, never compared.
pub const MAX_LABEL: usize = 128;

/// Types in one `want`. More than any application has, and still a set whose
/// lookup costs nothing.
pub const MAX_WANT_TYPES: usize = 256;

// ----------------------------------------------------- subscribers, polls

/// Events sent and not acknowledged, per subscriber, unless it asks otherwise:
/// ten full groups.
pub const DEFAULT_IN_FLIGHT_EVENTS: usize = 10_000;

/// The most unacknowledged events a subscriber may ask for: what it would see
/// again after a crash.
pub const MAX_IN_FLIGHT_EVENTS: usize = 100_000;

/// Bytes sent and not acknowledged, per subscriber, unless it asks otherwise:
/// one largest message is always possible.
pub const DEFAULT_IN_FLIGHT_BYTES: usize = 16 * MIB;

/// The most unacknowledged bytes a subscriber may ask for.
pub const MAX_IN_FLIGHT_BYTES: usize = 64 * MIB;

/// How often an idle stream says that it lives. Below the 30 s after which
/// common load balancers drop a silent stream.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);

/// The shortest heartbeat: a thousand idle subscribers cost a thousand
/// messages a second.
pub const MIN_HEARTBEAT: Duration = Duration::from_secs(1);

/// The longest heartbeat: beyond it proxies close the stream.
pub const MAX_HEARTBEAT: Duration = Duration::from_mins(1);

/// The longest a poll may wait for events. Clients and proxies give up on a
/// call after about a minute.
pub const MAX_WAIT: Duration = Duration::from_mins(1);

/// How long a browser remembers that a page of another origin may call; Chromium
/// takes no more.
pub const CROSS_ORIGIN_MEMORY: Duration = Duration::from_hours(2);

/// The longest a subscriber may let events gather into a group.
pub const MAX_LINGER: Duration = Duration::from_secs(1);

/// Open subscriptions per process. Each is a task with a group in its hands:
/// 4096 of them hold 4 GiB at the very worst, some megabytes in practice.
pub const MAX_SUBSCRIPTIONS: usize = 4096;

/// The most subscriptions that may be configured: beyond it another replica
/// is the better answer.
pub const MAX_CONFIGURED_SUBSCRIPTIONS: usize = 65_536;

/// How long a stream that the server ends waits for the acknowledgements of what
/// it has sent; half of a shutdown deadline that is short.
pub const ENDING_GRACE: Duration = Duration::from_secs(2);

/// Consumers on one page of a list: `ident` and figures, far below a message.
pub const MAX_PAGE_SIZE: usize = 1000;

// ---------------------------------------------------------------- reading

/// Rows that one filtered read looks at before it reports its progress, so
/// that no call grows with the table: some 10 ms of any database.
pub const SCAN_ROWS: usize = 10_000;

/// Ids below the place where a time is found that are looked at too: clocks
/// and transactions may have disordered as many. As much as one filtered read.
pub const TIME_LOOK_BACK: i64 = 10_000;

/// Events of one page read from the database: one group.
pub const PAGE_EVENTS: usize = 1000;

/// Bytes of one page, after its first event: one default group.
pub const PAGE_BYTES: usize = MIB;

/// Events read above an open gap and held back until it is resolved. Then
/// only the gap is read again: what is above waits in the database.
pub const HELD_EVENTS: usize = 20_000;

/// Bytes of the same: as much as a small ring.
pub const HELD_BYTES: usize = 16 * MIB;

/// Recent settled events kept for all subscribers. Some 100 000 small events:
/// a subscriber that pauses for seconds still misses the database.
pub const DEFAULT_RING_BYTES: usize = 32 * MIB;

/// The smallest ring: one default group, else each follower falls back to the
/// store at every step.
pub const MIN_RING_BYTES: usize = MIB;

/// The largest ring: beyond it the memory is better given to the database.
pub const MAX_RING_BYTES: usize = 1024 * MIB;

/// How long a call waits for this replica to prove the frontier up to an id
/// it has not seen yet.
pub const PROVE_TIMEOUT: Duration = Duration::from_secs(5);

// --------------------------------------------------------------- frontier

/// Ranges of dead ids that the sentinel remembers. At a thousand events a
/// second of which a tenth is rolled back that is a quarter of an hour or more,
/// in some 5 MiB.
pub const DEAD_RANGES: usize = 100_000;

/// Ranges that one look of the sentinel reads again. More than this many take
/// turns, so that a look stays below some 30 ms of the database.
pub const SENTINEL_LOOK_RANGES: usize = 10_000;

/// Ranges of one statement of the sentinel: below every engine's bound for
/// parameters, and 1.5 ms of PostgreSQL.
pub const SENTINEL_STATEMENT_RANGES: usize = 1000;

/// Late ids that one statement returns; the rest is found by the next look.
pub const SENTINEL_FINDS: usize = 1000;

/// Ids below the frontier whose visibility is looked up when the frontier moved
/// without reading events, from the highest down: the bound of such a statement.
pub const JUMPED_IDS: i64 = 10_000;

/// Such lookups are this far apart, so that many polls share one.
pub const JUMP_PAUSE: Duration = Duration::from_millis(100);

/// Late ids that are kept in the database, so that a consumer is moved back
/// once for each: as many as a sentinel can remember.
pub const KEPT_LATE_IDS: i64 = 100_000;

/// Ids, transactions and consumers that a message names before it counts.
pub const NAMED: usize = 20;

/// Skips that a replica knows: the latest of them is the one to obey, late
/// commits of the ids of the others are called by their cause.
pub const KNOWN_SKIPS: i64 = 16;

/// How often a tailer whose frontier waits looks whether an operator decided
/// to skip: well below [`PROVE_TIMEOUT`], so that a call that needs the skip
/// succeeds.
pub const SKIP_LOOK: Duration = Duration::from_secs(1);

/// Characters of the reason that an operator gives for a skip: a sentence and
/// the address of a ticket.
pub const MAX_REASON: usize = 500;

/// The longest pause between two warnings that the frontier waits for the same
/// transaction.
pub const LONGEST_STALL_PAUSE: Duration = Duration::from_mins(10);

// ---------------------------------------------------------------- writing

/// Calls waiting for the writer; the next one is `RESOURCE_EXHAUSTED`. At ten
/// thousand events a second that is less than half a second of waiting.
pub const WRITER_QUEUE_REQUESTS: usize = 4096;

/// Bytes waiting for the writer: four full commits of the largest size and
/// the memory an overload may take.
pub const WRITER_QUEUE_BYTES: usize = 64 * MIB;

/// Events of one commit. Past a thousand rows the commit's share of the cost
/// per event is no longer measurable, while everybody waits longer.
pub const WRITER_BATCH_EVENTS: usize = 1000;

/// Bytes of one commit, after its first request: keeps the transaction short
/// and below the default `max_allowed_packet` of 16 MiB.
pub const WRITER_BATCH_BYTES: usize = 8 * MIB;

// -------------------------------------------------------------- archiving

/// Events of one transaction of the warehouse: one range of its ledger.
pub const MAX_ARCHIVE_BATCH_EVENTS: usize = 10_000;

/// Bytes of the same, after its first event; it is held in memory twice.
pub const MAX_ARCHIVE_BATCH_BYTES: usize = 64 * MIB;

// ----------------------------------------------------------------- upkeep

/// Rows of one batch of the discarder unless configured: some 4 ms.
pub const DISCARD_ROWS: usize = 1000;

/// The most that may be configured: the stream's row is locked meanwhile, and
/// acknowledgements wait.
pub const MAX_DISCARD_ROWS: usize = 10_000;

/// A batch that takes longer is followed by a smaller one: an acknowledgement
/// (and on SQLite a writer) may have waited as long.
pub const DISCARD_BATCH_TIME: Duration = Duration::from_millis(50);

/// How often the discarder looks whether there is plenty to do: one cheap query.
pub const DISCARD_LOOK: Duration = Duration::from_secs(10);

/// How often consumers are looked at for life, unless a rule's time is short.
pub const EXPIRY_LOOK: Duration = Duration::from_mins(1);

/// The same for a rule of seconds.
pub const EXPIRY_LOOK_SHORTEST: Duration = Duration::from_secs(1);

/// The most rules of expiry: each is compared with each consumer.
pub const MAX_EXPIRY_RULES: usize = 100;

/// A question after the health of a service has its name in it, and strangers
/// may ask.
pub const MAX_HEALTH_REQUEST_BYTES: usize = KIB;

/// Bytes of all messages that have begun and not ended, of gRPC and FutoIn over HTTP: eight of
/// the largest. A message is decoded when it is whole, and held until then.
pub const MESSAGES_UNDER_WAY_BYTES: usize = 8 * MAX_MESSAGE_BYTES;

/// Bytes of a message that are not counted for that: one frame of HTTP/2, so
/// that ordinary calls go on when the room is taken.
pub const FREE_MESSAGE_BYTES: usize = 16 * KIB;

/// How long a gRPC message may be on its way, and the end of a call of one
/// message after it: the largest at half a megabyte a second.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

// ----------------------------------------------------------------- quotas

/// Users whose use is kept at a time: more than a file of users may name, and
/// some 2 MiB.
pub const MAX_BUDGETS: usize = 10_000;

/// When a user who has as many streams as it may comes back: nothing tells
/// when one ends, and a connection that broke is noticed within a minute.
pub const STREAM_RETRY: Duration = Duration::from_secs(5);

/// The longest time for which a user may save up.
pub const MAX_QUOTA_BURST: Duration = Duration::from_hours(1);

// ------------------------------------------------------------ connections

/// Connections per listener unless configured: below the usual limit of open
/// files in containers (65 536) with room for the other listener.
pub const DEFAULT_CONNECTIONS: usize = 4096;

/// The most connections that may be configured per listener.
pub const MAX_CONNECTIONS: usize = 60_000;

/// Concurrent HTTP/2 streams per connection: a client that multiplexes a
/// thousand callers over one channel is the expected case.
pub const MAX_CONNECTION_STREAMS: u32 = 1024;

/// A peer that connects and says nothing is dropped after this. Any client
/// speaks in its first round trip.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the first byte to the end of the first header.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP/1.1 connection between two requests. Clients pool them for 30 s,
/// and one that the server closes first costs them a failed request.
pub const HTTP1_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// How often the files of TLS are looked at; a change is taken at the second look.
pub const TLS_LOOK: Duration = Duration::from_secs(1);

/// Bytes of a file of TLS: every CA that browsers believe is half of it.
pub const MAX_TLS_FILE_BYTES: u64 = 512 * 1024;

/// Bytes of a request's header: tokens and trace context, never more.
pub const MAX_HEADER_BYTES: usize = 16 * KIB;

/// The same for the decoded header list of HTTP/2, which counts 32 bytes more
/// per field.
pub const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;

/// An HTTP/2 connection is asked whether it lives after this long in silence;
/// below the idle time-outs of load balancers (60 s and more).
pub const HTTP2_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long the answer may take: two retransmissions on a bad line.
pub const HTTP2_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes a peer may send ahead on one HTTP/2 stream: a batch of ordinary size
/// in one go.
pub const HTTP2_STREAM_WINDOW: u32 = 1024 * 1024;

/// Bytes a peer may send ahead on one HTTP/2 connection. Eight streams that
/// wait to be read leave the others of their connection alone.
pub const HTTP2_CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Bytes buffered for a peer per HTTP/2 stream before its sender waits: a
/// slow reader must hold groups, not memory.
pub const HTTP2_SEND_BUFFER: usize = 256 * KIB;

/// Streams that a peer may open and reset before they were accepted: the
/// "rapid reset" attack. Ordinary cancellation stays far below.
pub const HTTP2_PENDING_RESETS: usize = 64;

/// Connections that wait to be accepted: all subscribers of a busy service
/// come back at the same moment after a restart.
pub const BACKLOG: u32 = 1024;

/// The pause after `accept` failed: out of file descriptors does not get
/// better by asking again at once.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long `/metrics` waits for fresh figures from a database that may be the
/// very thing in trouble; then it answers with the last ones.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(2);

/// The same warning is logged at most this often.
pub const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Consumers that have series of their own in the metrics, those furthest
/// behind first: what one scrape of Prometheus takes without a thought.
pub const CONSUMER_SERIES: usize = 1000;

/// Spans that wait to be sent to a collector; more are dropped. Some 2 MiB.
pub const WAITING_SPANS: usize = 2048;

/// How long the last spans may take to be sent when the process ends.
pub const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(2);

/// Events whose adding span is remembered until they are delivered: some
/// 10 s at a thousand traced events a second, in 2 MiB.
pub const TRACED_EVENTS: usize = 10_000;

/// Deliveries whose span is remembered until they are acknowledged.
pub const TRACED_DELIVERIES: usize = 1000;

/// Spans that one span is linked to: the SDK's own bound.
pub const SPAN_LINKS: usize = 128;

// ------------------------------------------------------------------ users

/// Bytes of the file of users, and of each file that it names: thousands of
/// users, and every key set there is.
pub const MAX_AUTH_FILE_BYTES: u64 = 4 << 20;

/// Users in their file: each is a handful of patterns in memory.
pub const MAX_USERS: usize = 10_000;

/// Bytes of a bearer token. Those of Kubernetes have about one KiB; a header
/// must hold it and more, see [`MAX_HEADER_BYTES`].
pub const MAX_TOKEN_BYTES: usize = 8 * KIB;

/// Signed tokens that are remembered as verified: a signature costs some
/// 100 µs, and a client sends the same token with every call.
pub const VERIFIED_TOKENS: usize = 4096;

/// The most that clocks of issuers may differ from ours.
pub const MAX_LEEWAY: Duration = Duration::from_mins(5);

/// How often the files of users are compared with what was read: a removed user
/// is out within about a second, and the files are small.
pub const USERS_LOOK: Duration = Duration::from_secs(1);

/// The longest sleep towards the end of a token: clocks are set meanwhile.
pub const EXPIRY_STEP: Duration = Duration::from_secs(10);

/// Refusals logged in one [`WARNING_INTERVAL`]; the others are only counted.
pub const LOGGED_REFUSALS: u32 = 50;

// ----------------------------------------------------------------- FutoIn

/// Bytes of a FutoIn request unless configured: what clients of the original
/// send at most, and its servers take.
pub const FUTOIN_REQUEST_BYTES: usize = 64 * KIB;

/// The largest request that may be configured: one event of the largest size
/// and its envelope.
pub const MAX_FUTOIN_REQUEST_BYTES: usize = MAX_EVENT_BYTES + 64 * KIB;

/// How long the body of a request may be on its way.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the events of a pushed group, after its first event: written as
/// JSON they stay near 64 KiB, as FutoIn recommends.
pub const FUTOIN_GROUP_BYTES: usize = 40 * KIB;

/// How often a filtered subscription may move its position without an event.
pub const FUTOIN_PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Requests of one socket that run at a time. Clients send 8 at once.
pub const SOCKET_REQUESTS: usize = 64;

/// Messages that wait to be written to one socket.
pub const SOCKET_QUEUE: usize = 4;

/// Bytes read ahead from one socket; the library's own would be 128 KiB, for
/// each of thousands of silent ones.
pub const SOCKET_READ_BUFFER: usize = 4 * KIB;

/// A client that takes nothing for so long is dropped.
pub const SOCKET_WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pings without any sign of life before a client is dropped.
pub const SOCKET_PINGS: u32 = 2;

/// Characters of a receiver's refusal that are logged.
pub const LOGGED_REFUSAL: usize = 200;

/// Pings of a client between two of ours that are answered. The answers wait in
/// memory while the client does not read, 127 bytes each.
pub const SOCKET_PINGS_HEARD: u32 = 1000;

/// How long a client that sent too much is listened to after it was told.
pub const SOCKET_LINGER: Duration = Duration::from_secs(1);

/// Bytes of that.
pub const SOCKET_LINGER_BYTES: usize = MIB;

/// After a take-over other receivers of the consumer stand by for so long.
pub const TAKEOVER_PAUSE: Duration = Duration::from_mins(1);

/// A receiver whose consumer is blocked is kept this long before its socket is
/// closed: it comes back at once, perhaps after an operator has helped.
pub const BLOCKED_PAUSE: Duration = Duration::from_secs(30);

/// A receiver that answers within this may have a second group under way: its
/// own limit of 5 s for a group begins with the arrival.
pub const QUICK_ANSWER: Duration = Duration::from_millis(500);

/// The first pause before a refused group is offered again; doubled each time.
pub const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// The longest such pause.
pub const LONGEST_RETRY: Duration = Duration::from_secs(3);

// ---------------------------------------------------------------- console

/// Slots of the console's history: an hour of [`HISTORY_SLOT`]s.
pub const HISTORY_SLOTS: usize = 360;

/// One point of a chart: as fine as a screen shows an hour.
pub const HISTORY_SLOT: Duration = Duration::from_secs(10);

/// Types that the history tells apart, in half a MiB with everything else; what
/// is more is counted together.
pub const OBSERVED_TYPES: usize = 32;

/// Consumers whose lag one slot of the history has: the furthest behind. More
/// lines than a chart can show.
pub const OBSERVED_CONSUMERS: usize = 16;

/// How often events are counted: at thirty thousand a second the ring holds
/// three times as many.
pub const HISTORY_LOOK: Duration = Duration::from_secs(1);

/// For how long after somebody looked at the console it goes on counting:
/// browsers let a page in the background speak once in a minute.
pub const CONSOLE_ATTENTION: Duration = Duration::from_secs(90);

/// Several pages share one look at the database if they come so close.
pub const CONSOLE_GLANCE: Duration = Duration::from_secs(1);

/// Consumers that one answer of the console has, the worst first.
pub const CONSOLE_CONSUMERS: usize = 200;

/// Characters that such a list may be searched for: longer than any name.
pub const CONSOLE_SEARCH: usize = 64;

/// Live tails of consoles open at a time: people, not programs.
pub const CONSOLE_TAILS: usize = 32;

/// Events of one message of such a tail: more than anybody reads. What comes
/// besides is counted.
pub const CONSOLE_TAIL_EVENTS: usize = 100;

/// Such messages are this far apart.
pub const CONSOLE_TAIL_PACE: Duration = Duration::from_millis(200);

/// Ids before the frontier at which a tail begins, so that it is not empty.
pub const CONSOLE_TAIL_BACK: i64 = 50;

/// Bytes of an event's data that a tail shows.
pub const CONSOLE_TAIL_DATA: usize = 16 * KIB;

/// How often a silent tail says that it lives.
pub const CONSOLE_HEARTBEAT: Duration = Duration::from_secs(5);

/// Bytes of a request to the console: names and numbers.
pub const CONSOLE_BODY: usize = 4 * KIB;

// --------------------------------------------------------------- shutdown

/// From the first signal to the end by force. Below the 30 s that Kubernetes
/// grants by default.
pub const DEFAULT_DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// After the end by force, tasks get this long to notice it.
pub const KILL_GRACE: Duration = Duration::from_millis(500);

/// Acks waiting for their transaction: one per consumer and a few more.
pub const ACK_QUEUE_REQUESTS: usize = 16 * 1024;

/// Acks in one transaction: keeps the write lock below some 20 ms.
pub const ACK_BATCH_REQUESTS: usize = 1024;

// The relations that the reasons above rely on.
const _: () = {
    assert!(MAX_EVENT_BYTES * 2 <= MAX_MESSAGE_BYTES);
    assert!(MAX_GROUP_BYTES <= MAX_EVENT_BYTES);
    assert!(DEFAULT_GROUP_BYTES <= MAX_GROUP_BYTES);
    assert!(DEFAULT_IN_FLIGHT_BYTES >= MAX_EVENT_BYTES);
    assert!(WRITER_BATCH_BYTES <= WRITER_QUEUE_BYTES);
    assert!(MAX_BATCH_EVENTS <= WRITER_BATCH_EVENTS);
    assert!(MAX_USER + 1 + MAX_COMPONENT == 64);
    assert!(SKIP_LOOK.as_secs() * 2 < PROVE_TIMEOUT.as_secs());
    assert!(HTTP1_IDLE_TIMEOUT.as_secs() >= 35);
};
