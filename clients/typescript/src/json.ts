/**
 * JSON texts and their values. Integers beyond 2^53 become `bigint` and come
 * back from it; a text that is at hand is never written anew.
 *
 * @module
 */
import { parse, stringify } from 'lossless-json';

/**
 * Ready JSON text, as event data. A plain string is a JSON value of its own,
 * hence the name for it:
 *
 * ```ts
 * await stream.addEvent('ORDER_NEW', new JsonText('{"order": 1}'));
 * ```
 */
export class JsonText {
  /** @param text well-formed JSON, stored as given */
  constructor(readonly text: string) {}
}

/**
 * The value of a JSON text: as `JSON.parse`, but an integer that a `number`
 * cannot hold is a `bigint`.
 *
 * @throws SyntaxError for a text that is not JSON
 */
export function parseJson(text: string): unknown {
  return parse(text, undefined, { parseNumber, onDuplicateKey: ({ newValue }) => newValue });
}

/** The compact JSON text of a value; `undefined` for what JSON does not have. */
export function stringifyJson(value: unknown): string | undefined {
  return stringify(value);
}

function parseNumber(text: string): number | bigint {
  const number = Number(text);
  return Number.isSafeInteger(number) || !/^-?\d+$/.test(text) ? number : BigInt(text);
}
