// Numbers, times and durations in words. All are short enough for a table's cell.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const MINUTE = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const NONE = "–";

/** 12345 → "12,345"; null → "–". */
export function whole(number) {
  return number === null || number === undefined ? NONE : WHOLE.format(number);
}

/** A number to three digits, without trailing zeros. */
export function digits(number) {
  const size = Math.abs(number);
  if (size === 0) return "0";
  const places = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : Math.min(6, 2 - Math.floor(Math.log10(size)));
  return String(Number(number.toFixed(places)));
}

/** 12345 → "12.3 k". */
export function si(number) {
  if (number === null || number === undefined) return NONE;
  let rest = number;
  for (const prefix of ["", " k", " M", " G"]) {
    if (Math.abs(rest) < 999.5) return digits(rest) + prefix;
    rest /= 1000;
  }
  return digits(rest) + " T";
}

/** 84000000 → "80.1 MiB". */
export function bytes(number) {
  if (number === null || number === undefined) return NONE;
  let rest = number;
  for (const unit of [" B", " KiB", " MiB", " GiB"]) {
    if (rest < 1023.5) return digits(rest) + unit;
    rest /= 1024;
  }
  return digits(rest) + " TiB";
}

/** 0.4267 → "42.7 %". */
export function percent(share) {
  if (share === null || share === undefined) return NONE;
  const hundred = share * 100;
  return `${hundred > 0 && hundred < 0.1 ? "< 0.1" : hundred >= 99.95 || hundred === 0 ? Math.round(hundred) : hundred.toFixed(1)} %`;
}

/** Microseconds with the unit that fits: "1.2 µs", "3.4 ms". */
export function micros(us) {
  if (us === null || us === undefined) return NONE;
  if (us < 999.5) return `${digits(us)} µs`;
  if (us < 999500) return `${digits(us / 1000)} ms`;
  return `${digits(us / 1e6)} s`;
}

/** How long something lasts or ago it is, in its largest unit: "3 s", "12 min", "4 h", "3 d". */
export function lasting(ms) {
  if (ms === null || ms === undefined) return NONE;
  const s = Math.max(0, ms) / 1000;
  if (s < 1) return "< 1 s";
  if (s < 100) return `${Math.floor(s)} s`;
  if (s < 6000) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** "3 s ago", "now". */
export function ago(ms) {
  return ms === null || ms === undefined ? "never" : ms < 1000 ? "just now" : `${lasting(ms)} ago`;
}

/** The time of day, to the second. */
export function clock(ms) {
  return CLOCK.format(ms);
}

/** The time of day, to the minute. */
export function minute(ms) {
  return MINUTE.format(ms);
}

/** Date and time. */
export function day(ms) {
  return DAY.format(ms);
}

/** "1 worker", "2 workers". */
export function many(count, one, more = `${one}s`) {
  return `${whole(count)} ${count === 1 ? one : more}`;
}
