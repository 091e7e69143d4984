//! The names of all metrics, for those who count and for those who look.
//!
//! Each is one constant, so that a name is spelt once. What it means, its labels
//! and what an operator does about it is in [`super::CATALOGUE`], without which
//! a metric does not exist: tests compare both with what a service exposes.

/// Events stored for callers of `AddEvent` and `AddEvents`.
pub const EVENTS_ADDED: &str = "eventstream_events_added_total";
/// From the arrival of a request to its commit.
pub const ADD_SECONDS: &str = "eventstream_add_seconds";
/// Events that shared one commit.
pub const ADD_BATCH_EVENTS: &str = "eventstream_add_batch_events";
/// Events handed out, by `mode`: `reliable`, `live` or `poll`.
pub const EVENTS_DELIVERED: &str = "eventstream_events_delivered_total";
/// Events handed to a reliable consumer more than once.
pub const EVENTS_REDELIVERED: &str = "eventstream_events_redelivered_total";
/// Events dropped for `LIVE` subscribers that were too slow.
pub const LIVE_DROPPED_EVENTS: &str = "eventstream_live_dropped_events_total";
/// From seeing a commit to handing its events to a subscriber.
pub const DELIVERY_SECONDS: &str = "eventstream_delivery_seconds";
/// The proven frontier.
pub const FRONTIER_ID: &str = "eventstream_frontier_id";
/// The highest id seen in the database.
pub const HEAD_ID: &str = "eventstream_head_id";
/// Open transactions that keep the frontier below the highest id.
pub const BLOCKERS: &str = "eventstream_blockers";
/// Age of such a transaction, by `session`, `client`, `prepared`.
pub const BLOCKER_AGE_SECONDS: &str = "eventstream_blocker_age_seconds";
/// Registered consumers.
pub const CONSUMERS: &str = "eventstream_consumers";
/// Consumers that get nothing until an operator acts.
pub const CONSUMERS_STOPPED: &str = "eventstream_consumers_stopped";
/// Ids between a consumer's position and the frontier, by `user`, `component`.
pub const CONSUMER_LAG_IDS: &str = "eventstream_consumer_lag_ids";
/// Age of a consumer's oldest undelivered event, by `user`, `component`.
pub const CONSUMER_LAG_SECONDS: &str = "eventstream_consumer_lag_seconds";
/// Whether a push session of the consumer is open anywhere.
pub const CONSUMER_CONNECTED: &str = "eventstream_consumer_connected";
/// 1 for the consumer that holds the oldest events, by `user`, `component`.
pub const HOLDS_OLDEST: &str = "eventstream_consumer_holds_oldest";
/// Open subscriptions.
pub const STREAMS_OPEN: &str = "eventstream_streams_open";
/// Bytes in the ring of recent events.
pub const RING_BYTES: &str = "eventstream_ring_bytes";
/// Events in the ring of recent events.
pub const RING_EVENTS: &str = "eventstream_ring_events";
/// Whether the database answers.
pub const DATABASE_UP: &str = "eventstream_database_up";
/// Failed database operations, by `class`.
pub const DATABASE_ERRORS: &str = "eventstream_database_errors_total";
/// Database connections made again after a loss.
pub const DATABASE_RECONNECTS: &str = "eventstream_database_reconnects_total";
/// Open connections to the database, by `pool` and `state`.
pub const DATABASE_CONNECTIONS: &str = "eventstream_database_connections";
/// The most connections of a `pool`.
pub const DATABASE_CONNECTIONS_MAX: &str = "eventstream_database_connections_max";
/// Events that the archiver has put into the warehouse.
pub const EVENTS_ARCHIVED: &str = "eventstream_events_archived_total";
/// Of those, events below what was archived before: they settled late.
pub const EVENTS_ARCHIVED_LATE: &str = "eventstream_events_archived_late_total";
/// Times that the warehouse did not take an event and archiving stopped.
pub const ARCHIVE_REJECTIONS: &str = "eventstream_archive_rejections_total";
/// Failed operations of the warehouse, by `class`.
pub const ARCHIVE_ERRORS: &str = "eventstream_archive_errors_total";
/// Settled ids that are not archived yet.
pub const ARCHIVE_LAG_IDS: &str = "eventstream_archive_lag_ids";
/// Age of the oldest of them.
pub const ARCHIVE_LAG_SECONDS: &str = "eventstream_archive_lag_seconds";
/// Subscriptions that ended because another one of their consumer began.
pub const TAKEOVERS: &str = "eventstream_takeovers_total";
/// Acknowledgements received.
pub const ACKS: &str = "eventstream_acks_total";
/// Acknowledgements that shared one commit.
pub const ACK_BATCH_SIZE: &str = "eventstream_ack_batch_size";
/// Reads of the database's tail.
pub const TAIL_READS: &str = "eventstream_tail_reads_total";
/// Databases found to be older than they were.
pub const RESTORES_DETECTED: &str = "eventstream_restores_detected_total";
/// 1 in the replica that does a `task` of upkeep, 0 in one that could.
pub const UPKEEP_LEASE: &str = "eventstream_upkeep_lease";
/// Failed steps of upkeep, by `task`.
pub const UPKEEP_ERRORS: &str = "eventstream_upkeep_errors_total";
/// Events deleted by the discarder.
pub const DISCARDED_EVENTS: &str = "eventstream_discarded_events_total";
/// Ids that every consumer has and that are still kept, when last looked at.
pub const DISCARDABLE_IDS: &str = "eventstream_discardable_ids";
/// Every id up to this one may have been discarded.
pub const DISCARDED_TO_ID: &str = "eventstream_discarded_to_id";
/// Consumers unregistered because they showed no life.
pub const CONSUMERS_EXPIRED: &str = "eventstream_consumers_expired_total";
/// Consumers that show no life and that a rule warns of.
pub const CONSUMERS_SILENT: &str = "eventstream_consumers_silent";
/// Seconds that the frontier has been waiting for the same id.
pub const FRONTIER_WAITS_SECONDS: &str = "eventstream_frontier_waits_seconds";
/// Ranges of dead ids that are looked at again.
pub const DEAD_RANGES: &str = "eventstream_dead_ranges";
/// Events that appeared below the frontier after they were declared dead, by
/// `database`.
pub const LATE_EVENTS: &str = "eventstream_late_events_total";
/// Consumers that were moved back before such events.
pub const CONSUMERS_REWOUND: &str = "eventstream_consumers_rewound_total";
/// Skips of operators that this replica has obeyed.
pub const SKIPS_OBEYED: &str = "eventstream_frontier_skips_total";
/// Ids that these skips gave up.
pub const IDS_SKIPPED: &str = "eventstream_skipped_ids_total";
/// Calls over gRPC, by `method` and `code`.
pub const GRPC_REQUESTS: &str = "eventstream_grpc_requests_total";
/// How long calls over gRPC took, by `method`.
pub const GRPC_REQUEST_SECONDS: &str = "eventstream_grpc_request_seconds";
/// Push streams over gRPC that the service ended, by `code`.
pub const STREAMS_ENDED: &str = "eventstream_streams_ended_total";
/// Open connections, by `listener`.
pub const CONNECTIONS_OPEN: &str = "eventstream_connections_open";
/// Connections closed by the guards, by `listener` and `reason`.
pub const CONNECTIONS_REFUSED: &str = "eventstream_connections_refused_total";
/// What users were refused because of their quota, by `what`: `calls`,
/// `events`, `bytes` or `streams`.
pub const QUOTA_REFUSALS: &str = "eventstream_quota_refusals_total";
/// What was refused because the service had no room for it.
pub const OVERLOADS: &str = "eventstream_overloads_total";
/// When the certificate of a `listener` expires, in seconds of the Unix time.
pub const TLS_EXPIRES: &str = "eventstream_tls_certificate_expires_timestamp_seconds";
/// Times that changed files of TLS were taken or not, by `listener`, `outcome`.
pub const TLS_RELOADS: &str = "eventstream_tls_reloads_total";
/// 1 while the files of a `listener`'s TLS cannot be used and older ones are.
pub const TLS_RELOAD_FAILING: &str = "eventstream_tls_reload_failing";
/// Requests that were refused, by `reason`: `unauthenticated`, `not_allowed`, or
/// `ended` for streams whose caller is no longer who it was.
pub const REFUSALS: &str = "eventstream_refusals_total";
/// 1 while the file of users cannot be read and those before stay in force.
pub const USERS_STALE: &str = "eventstream_users_stale";
/// FutoIn requests, by `function` and `outcome`: `ok` or the error's name.
pub const FUTOIN_REQUESTS: &str = "eventstream_futoin_requests_total";
/// How long FutoIn requests took, by `function`.
pub const FUTOIN_REQUEST_SECONDS: &str = "eventstream_futoin_request_seconds";
/// Open WebSockets of FutoIn clients.
pub const FUTOIN_SOCKETS: &str = "eventstream_futoin_sockets";
/// Groups that a FutoIn receiver answered with an error, so that they were
/// offered again.
pub const FUTOIN_REFUSALS: &str = "eventstream_futoin_refusals_total";
/// Events that a FutoIn client wanted and that FutoIn cannot carry.
pub const FUTOIN_BLOCKED: &str = "eventstream_futoin_blocked_total";
/// Spans handed to the collector, by `outcome`.
pub const TRACE_SPANS: &str = "eventstream_trace_spans_total";
/// Whether calls are served.
pub const READY: &str = "eventstream_ready";
/// Always 1; the `version` and the kind of `database` are its labels.
pub const BUILD_INFO: &str = "eventstream_build_info";
