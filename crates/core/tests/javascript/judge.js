// What JavaScript itself makes of a document: one line in (`d` or `n`, then hex), one line out, in the same order.
//
// d: `refused` where JSON.parse refuses it, `other` where it is not an object, else `object` and the canonical form.
// n: `refused` where it is no JSON number, `changed` where JavaScript changes its value, else `kept` and its spelling.
'use strict';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function document(bytes) {
  let value;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch {
    return 'refused';
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return 'other';
  const { type, event, ...others } = value;
  const moved = {};
  if (Object.hasOwn(value, 'type')) moved.type = type;
  if (Object.hasOwn(value, 'event')) moved.event = event;
  return 'object ' + Buffer.from(JSON.stringify({ ...moved, ...others })).toString('hex');
}

function number(bytes) {
  const text = bytes.toString();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return 'refused';
  }
  const spelled = JSON.stringify(value);
  return spelled !== 'null' && sameValue(decimal(text), decimal(spelled)) ? 'kept ' + spelled : 'changed';
}

function decimal(text) {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/.exec(text);
  const digits = BigInt(whole + fraction);
  const negative = exponent.startsWith('-');
  const size = BigInt(exponent.replace(/^[-+]/, ''));
  return { digits: sign ? -digits : digits, exponent: (negative ? -size : size) - BigInt(fraction.length) };
}

function sameValue(a, b) {
  if (a.digits === 0n || b.digits === 0n) return a.digits === b.digits;
  const apart = a.exponent - b.exponent;
  // Further apart than any of the texts is long, so that they cannot be equal, and 10 ** apart could be out of reach.
  if (apart > 5000n || apart < -5000n) return false;
  return apart < 0n ? a.digits === b.digits * 10n ** -apart : a.digits * 10n ** apart === b.digits;
}

const chunks = [];
process.stdin.on('data', (chunk) => chunks.push(chunk));
process.stdin.on('end', () => {
  const lines = Buffer.concat(chunks).toString().split('\n').filter(Boolean);
  const answers = lines.map((line) => {
    const bytes = Buffer.from(line.slice(2), 'hex');
    return line[0] === 'd' ? document(bytes) : number(bytes);
  });
  process.stdout.write(answers.join('\n') + '\n');
});
