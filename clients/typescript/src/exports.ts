/** @module */
export type { AddOptions } from './add.js';
export { Admin, type OwnerOptions } from './admin.js';
export { EventStreamClient, type ClientOptions } from './client.js';
export type { Token } from './connection.js';
export {
  EventStreamError,
  HandlerError,
  InvalidEventError,
  ServiceError,
  type Code,
  type ServiceErrorDetails,
} from './errors.js';
export { Event, type NewEvent } from './event.js';
export type {
  Blocker,
  GetStatusResponse,
  Lease,
  SkipFrontierResponse,
} from './gen/futoin/evt/v1/admin_pb.js';
export type { Consumer } from './gen/futoin/evt/v1/types_pb.js';
export { JsonText } from './json.js';
export type { Log, LogLevel } from './log.js';
export type { Page, PollOptions, PollRequest } from './poll.js';
export { LiveReceiver } from './receiver/live.js';
export type {
  DeadLetters,
  Delivery,
  GroupHandler,
  GroupReceiveOptions,
  Handler,
  HandlerContext,
  LiveOptions,
  OnFailure,
  ReceiveOptions,
  ReceiverOptions,
  Tracing,
} from './receiver/options.js';
export { Receiver } from './receiver/receiver.js';
export { ReliableReceiver } from './receiver/reliable.js';
export type { Backoff, CallOptions } from './retry.js';
export type { Start, StartAfter, StartTime } from './start.js';
