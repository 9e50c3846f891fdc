//! Flags and variables whose values are of another type: which setting it is, where it was said, and what is possible.
use clap::error::{ContextKind, ContextValue, ErrorKind};
use kvroute::config::{Key, keys, quoted};
use std::ffi::OsString;

/// What there is to say of an error that is about the value of one of the node's settings; `None` of all others.
pub(super) fn setting(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let of = args.get(1).and_then(|command| command.to_str());
    if !matches!(of, Some("serve" | "check-config")) {
        return None;
    }
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let text = |kind| match error.get(kind) {
                Some(ContextValue::String(text)) => Some(text.as_str()),
                _ => None,
            };
            // `--replays <N>`.
            let flag = text(ContextKind::InvalidArg)?
                .split([' ', '=', '['])
                .next()?;
            let key = keys().iter().find(|key| key.flag == flag)?;
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let source = match args.iter().any(|arg| is_flag(arg, &key.flag)) {
                true => &key.flag,
                false => &key.variable,
            };
            Some(refusal(key, &quoted(&key.name, value), source))
        }
        // Clap does not say where.
        ErrorKind::InvalidUtf8 => keys().iter().find_map(|key| {
            let flag = not_utf8(args, &key.flag).then_some(&key.flag);
            let broken =
                std::env::var_os(&key.variable).is_some_and(|value| value.to_str().is_none());
            let source = flag.or_else(|| broken.then_some(&key.variable))?;
            let is_path = key.form == "a path";
            (!is_path).then(|| refusal(key, "not UTF-8", source))
        }),
        _ => None,
    }
}

fn refusal(key: &Key, value: &str, source: &str) -> String {
    format!(
        "{}: {value}; {} is expected (from {source})",
        key.name, key.form
    )
}

/// Whether an argument is this flag, with a value or before one.
fn is_flag(arg: &OsString, flag: &str) -> bool {
    let arg = arg.as_encoded_bytes().strip_prefix(flag.as_bytes());
    arg.is_some_and(|rest| matches!(rest.first(), None | Some(b'=')))
}

/// Whether this flag has a value that is not UTF-8.
fn not_utf8(args: &[OsString], flag: &str) -> bool {
    let broken = |arg: &OsString| arg.to_str().is_none();
    let own = args.iter().any(|arg| is_flag(arg, flag) && broken(arg));
    own || args
        .windows(2)
        .any(|pair| pair[0] == *flag && broken(&pair[1]))
}
