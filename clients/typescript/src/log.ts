/**
 * What the library reports by itself.
 *
 * @module
 */

/** How important a report is. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/**
 * Takes reports: a text that never changes, and figures beside it. With pino:
 *
 * ```ts
 * const log: Log = (level, message, fields) => logger[level](fields, message);
 * ```
 */
export type Log = (level: LogLevel, message: string, fields: Readonly<Record<string, unknown>>) => void;

/** Warnings and errors on the console: a handler that keeps failing is never silent. */
export const consoleLog: Log = (level, message, fields) => {
  if (level === 'warn' || level === 'error') {
    console[level](`eventstream: ${message}`, fields);
  }
};
