/**
 * What a new event must be, checked before anything is sent or inserted. The
 * rules are the service's own.
 *
 * @module
 */
import { InvalidEventError } from './errors.js';
import { JsonText, stringifyJson } from './json.js';

/** Bytes of one event's data. */
export const MAX_DATA_BYTES = 8 * 1024 * 1024;

const TYPE = /^[A-Z_]{1,16}$/;
const TABLE = /^\w+(\.\w+)?$/;
const encoder = new TextEncoder();

/** The type, if it is one. */
export function checkedType(type: string): string {
  if (!TYPE.test(type)) {
    throw new InvalidEventError('type', 'must match ^[A-Z_]{1,16}$');
  }
  return type;
}

/** The JSON text of event data: that of {@link JsonText} to the letter, any other value written compact. */
export function checkedData(data: unknown): string {
  const text = data instanceof JsonText ? wellFormed(data.text) : written(data);
  const bytes = bytesOf([text]);
  if (bytes > MAX_DATA_BYTES) {
    throw new InvalidEventError('data', `must be at most ${MAX_DATA_BYTES} bytes of JSON, is ${bytes}`);
  }
  return text;
}

/** Bytes of the texts in UTF-8, or a number above it that is allowed anyway. */
export function bytesOf(texts: string[]): number {
  // No unit of UTF-16 takes more than three bytes.
  const most = texts.reduce((sum, text) => sum + text.length * 3, 0);
  if (most <= MAX_DATA_BYTES) {
    return most;
  }
  return texts.reduce((sum, text) => sum + encoder.encode(text).length, 0);
}

/** The table's name, which becomes part of a statement. */
export function checkedTable(table: string): string {
  if (!TABLE.test(table)) {
    throw new InvalidEventError('table', 'must be letters, digits, _ and at most one . between them');
  }
  return table;
}

function wellFormed(text: string): string {
  try {
    JSON.parse(text);
  } catch (cause) {
    throw new InvalidEventError('data', `must be JSON: ${(cause as Error).message}`, { cause });
  }
  // Half an emoji has no UTF-8.
  if (!text.isWellFormed()) {
    throw new InvalidEventError('data', 'must be well-formed Unicode');
  }
  return text;
}

function written(data: unknown): string {
  let text: string | undefined;
  try {
    text = stringifyJson(data);
  } catch (cause) {
    throw new InvalidEventError('data', `must be JSON: ${(cause as Error).message}`, { cause });
  }
  if (text === undefined) {
    throw new InvalidEventError('data', `must be JSON, is ${typeof data}`);
  }
  return text;
}
