//! Jinja as transformers sets it up for chat templates, on minijinja: the filters, tests and methods that differ from
//! Python's are replaced here.
//!
//! Whatever is not surely the same fails, and a template that fails is not understood. So nothing here has to be complete.
use super::json::{Json, Style, dump, is_plain};
use super::python;
use crate::limits::{TEMPLATE_FUEL_MAX, TEMPLATE_NESTING_MAX};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};
use std::sync::Arc;

/// White space around tags as transformers wants it.
pub(super) fn syntax() -> SyntaxConfig {
    let built = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    // The delimiters are the usual ones; those alone can be wrong.
    built.unwrap_or_default()
}

/// An environment that renders chat templates.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_syntax(syntax());
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_formatter(write);
    env.set_unknown_method_callback(method);
    env.set_fuel(Some(TEMPLATE_FUEL_MAX));
    env.set_recursion_limit(TEMPLATE_NESTING_MAX);
    env.add_function(
        "raise_exception",
        |_: Rest<Value>| -> Result<Value, Error> {
            Err(refuse("the template refuses the conversation"))
        },
    );
    env.add_filter("tojson", to_json);
    env.add_filter("trim", trim);
    env.add_filter("upper", |value: &Value| by(python::upper, value));
    env.add_filter("lower", |value: &Value| by(python::lower, value));
    env.add_filter("capitalize", |value: &Value| by(python::capitalize, value));
    env.add_filter("title", |value: &Value| by(filter_title, value));
    env.add_filter("replace", replace);
    env.add_filter("join", join);
    env.add_filter("string", string);
    env.add_filter("int", int);
    env.add_filter("indent", indent);
    env.add_test("sequence", is_sequence);
    env.add_test("iterable", is_iterable);
    env
}

/// Why rendering ends. The message never has anything of the conversation in it.
pub(super) fn refuse(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn unlike() -> Error {
    refuse("Python might do something else here")
}

/// Knows its keys, but not in which order the engine has them.
#[derive(Debug)]
pub(super) struct Unordered(pub(super) Vec<(&'static str, Value)>);

impl Object for Unordered {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        let pair = self.0.iter().find(|(name, _)| *name == key)?;
        Some(pair.1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// As templates see it. O(bytes).
pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Int(value) => Value::from(*value),
        Json::Float(value) => Value::from(*value),
        Json::Text(text) => Value::from(text.as_str()),
        Json::List(list) => list.iter().map(value).collect(),
        Json::Map(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(name, json)| (name.as_str(), value(json)));
            Value::from_pairs(pairs)
        }
    }
}

fn json(value: &Value) -> Option<Json> {
    Some(match value.kind() {
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => Json::Int(i64::try_from(value.clone()).ok()?),
        ValueKind::Number => {
            let float = f64::try_from(value.clone()).ok()?;
            is_plain(float).then_some(Json::Float(float))?
        }
        ValueKind::String => Json::Text(value.as_str()?.into()),
        ValueKind::Seq => {
            let items = value.try_iter().ok()?;
            Json::List(items.map(|item| json(&item)).collect::<Option<_>>()?)
        }
        ValueKind::Map => {
            let keys = value.try_iter().ok()?;
            let pair =
                |key: Value| Some((key.as_str()?.to_owned(), json(&value.get_item(&key).ok()?)?));
            Json::Map(keys.map(pair).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// `str(value)`.
fn text(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None | ValueKind::Bool => Ok(value.to_string()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => {
            // Python escapes what it cannot print, by its own tables, and has its own way with exponents.
            json(value)
                .filter(|_| !is_namespace(value))
                .ok_or_else(unlike)?;
            let text = value.to_string();
            let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            plain.then_some(text).ok_or_else(unlike)
        }
        _ => Err(unlike()),
    }
}

/// It looks like a map here, and not there.
fn is_namespace(value: &Value) -> bool {
    let object = value.as_object();
    object.is_some_and(|object| object.type_name().contains("Namespace"))
}

/// What `{{ … }}` writes.
fn write(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let written = match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&text(value)?),
    };
    written.map_err(|_| Error::from(ErrorKind::WriteFailure))
}

fn by(function: fn(&str) -> Option<String>, value: &Value) -> Result<String, Error> {
    function(&text(value)?).ok_or_else(unlike)
}

/// Jinja's filter has words end at white space and brackets only, unlike `str.title`: the same for letters and blanks.
fn filter_title(text: &str) -> Option<String> {
    let simple = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b' ';
    text.as_bytes()
        .iter()
        .all(simple)
        .then(|| python::title(text))?
}

fn to_json(value: &Value, args: Kwargs) -> Result<String, Error> {
    let indent = match args.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(indent) => indent.to_owned(),
            None => spaces(&indent)?,
        }),
    };
    let separators = args.get::<Option<Value>>("separators")?;
    let (item, key) = match separators.filter(|pair| !pair.is_none()) {
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
        Some(pair) => {
            let text = |n: usize| pair.get_item_by_index(n).ok()?.as_str().map(str::to_owned);
            let pair = text(0).zip(text(1)).filter(|_| pair.len() == Some(2));
            pair.ok_or_else(unlike)?
        }
    };
    let style = Style {
        indent,
        item,
        key,
        ascii: args.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: args.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    args.assert_all_used()?;
    Ok(dump(&json(value).ok_or_else(unlike)?, &style))
}

/// So many blanks.
fn spaces(width: &Value) -> Result<String, Error> {
    let width = u8::try_from(width.clone()).ok();
    let width = width.filter(|_| width.is_some()).ok_or_else(unlike)?;
    Ok(" ".repeat(width.into()))
}

fn trim(value: &Value, chars: Option<&str>) -> Result<String, Error> {
    Ok(python::strip(&text(value)?, chars, true, true).into())
}

fn replace(value: &Value, old: &str, new: &str, count: Option<usize>) -> Result<String, Error> {
    let text = text(value)?;
    Ok(count.map_or_else(
        || text.replace(old, new),
        |count| text.replacen(old, new, count),
    ))
}

fn join(value: &Value, between: Option<&str>) -> Result<String, Error> {
    let joinable = matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::String
    );
    let items = value
        .try_iter()
        .ok()
        .filter(|_| joinable)
        .ok_or_else(unlike)?;
    let items: Vec<String> = items.map(|item| text(&item)).collect::<Result<_, _>>()?;
    Ok(items.join(between.unwrap_or_default()))
}

fn string(value: &Value) -> Result<String, Error> {
    text(value)
}

fn int(value: &Value) -> Result<i64, Error> {
    let number = match (value.kind(), value.as_str()) {
        (ValueKind::Bool, _) => Some(value.is_true().into()),
        (ValueKind::Number, _) if value.is_integer() => i64::try_from(value.clone()).ok(),
        (_, Some(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(unlike)
}

fn indent(
    value: &Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    args: Kwargs,
) -> Result<String, Error> {
    let flag = |name, given: Option<bool>| -> Result<bool, Error> {
        Ok(given.or(args.get::<Option<bool>>(name)?).unwrap_or(false))
    };
    let (first, blank) = (flag("first", first)?, flag("blank", blank)?);
    let width = width.or(args.get::<Option<Value>>("width")?);
    args.assert_all_used()?;
    let width = width.unwrap_or_else(|| Value::from(4));
    let width = match width.as_str() {
        Some(width) => width.to_owned(),
        None => spaces(&width)?,
    };
    let text = value.as_str().ok_or_else(unlike)?;
    Ok(python::indent(text, &width, first, blank))
}

fn is_sequence(value: &Value) -> Result<bool, Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map => Ok(true),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => Ok(false),
        _ => Err(unlike()),
    }
}

fn is_iterable(value: &Value) -> Result<bool, Error> {
    match value.kind() {
        ValueKind::Iterable => Ok(true),
        _ => is_sequence(value),
    }
}

/// A method of a string, a list or a dict.
fn method(
    _: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => of_text(value.as_str().unwrap_or_default(), name, args),
        ValueKind::Map => of_map(value, name, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn of_map(map: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let object = map.as_object().ok_or_else(unlike)?;
    match name {
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            let found = object.get_value(key).or(default);
            Ok(found.unwrap_or_else(|| Value::from(())))
        }
        "keys" | "values" | "items" => {
            let () = from_args(args)?;
            let pairs = object.try_iter_pairs().ok_or_else(unlike)?;
            let pairs: Vec<(Value, Value)> = pairs.collect();
            let each = move |kind: &str| -> Vec<Value> {
                let pairs = pairs.into_iter();
                match kind {
                    "keys" => pairs.map(|(key, _)| key).collect(),
                    "values" => pairs.map(|(_, value)| value).collect(),
                    _ => pairs
                        .map(|(key, value)| Value::from(vec![key, value]))
                        .collect(),
                }
            };
            let items = each(name);
            // Neither printed nor indexed, as in Python.
            Ok(Value::make_iterable(move || items.clone().into_iter()))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn of_text(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let sides = match name {
        "strip" => Some((true, true)),
        "lstrip" => Some((true, false)),
        "rstrip" => Some((false, true)),
        _ => None,
    };
    if let Some((left, right)) = sides {
        let (chars,): (Option<&str>,) = from_args(args)?;
        return Ok(Value::from(python::strip(text, chars, left, right)));
    }
    match name {
        "startswith" => Ok(Value::from(affix(args, |affix| text.starts_with(affix))?)),
        "endswith" => Ok(Value::from(affix(args, |affix| text.ends_with(affix))?)),
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<usize>) = from_args(args)?;
            let replaced = match count {
                Some(count) => text.replacen(old, new, count),
                None => text.replace(old, new),
            };
            Ok(Value::from(replaced))
        }
        "count" => {
            let (what,): (&str,) = from_args(args)?;
            Ok(Value::from(text.matches(what).count()))
        }
        "find" | "rfind" => {
            let (what,): (&str,) = from_args(args)?;
            let at = if name == "find" {
                text.find(what)
            } else {
                text.rfind(what)
            };
            let at = at.and_then(|at| i64::try_from(text[..at].chars().count()).ok());
            Ok(Value::from(at.unwrap_or(-1)))
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let items = items.try_iter()?;
            let text_of = |item: Value| item.as_str().map(str::to_owned).ok_or_else(unlike);
            let items: Vec<String> = items.map(text_of).collect::<Result<_, _>>()?;
            Ok(Value::from(items.join(text)))
        }
        "split" | "splitlines" => parts(text, name, args),
        _ => cases(text, name, args),
    }
}

/// Whether one of the affixes, given alone or in a tuple, is there.
fn affix(args: &[Value], is_there: impl Fn(&str) -> bool) -> Result<bool, Error> {
    let (affixes,): (&Value,) = from_args(args)?;
    if let Some(affix) = affixes.as_str() {
        return Ok(is_there(affix));
    }
    let items = affixes.try_iter()?;
    let affixes: Option<Vec<Value>> = items
        .map(|item| item.as_str().is_some().then_some(item))
        .collect();
    let affixes = affixes.ok_or_else(unlike)?;
    Ok(affixes.iter().filter_map(Value::as_str).any(is_there))
}

fn parts(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    if name == "splitlines" {
        let (keep_ends,): (Option<bool>,) = from_args(args)?;
        let lines = python::lines(text, keep_ends.unwrap_or(false));
        return Ok(lines.into_iter().collect());
    }
    let (between, splits): (Option<&str>, Option<i64>) = from_args(args)?;
    let splits = splits.and_then(|splits| usize::try_from(splits).ok());
    let parts: Vec<&str> = match (between, splits) {
        (None, splits) => python::split_spaces(text, splits),
        (Some(""), _) => return Err(unlike()),
        (Some(between), None) => text.split(between).collect(),
        (Some(between), Some(splits)) => text.splitn(splits.saturating_add(1), between).collect(),
    };
    Ok(parts.into_iter().collect())
}

fn cases(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let () = from_args(args)?;
    let changed = match name {
        "upper" => Some(python::upper(text)),
        "lower" => Some(python::lower(text)),
        "capitalize" => Some(python::capitalize(text)),
        "title" => Some(python::title(text)),
        _ => None,
    };
    if let Some(changed) = changed {
        return changed.map(Value::from).ok_or_else(unlike);
    }
    let is = match name {
        "isdigit" | "isnumeric" | "isdecimal" => python::all(text, u8::is_ascii_digit),
        "isalpha" => python::all(text, u8::is_ascii_alphabetic),
        "isalnum" => python::all(text, u8::is_ascii_alphanumeric),
        "isspace" => Some(!text.is_empty() && text.chars().all(python::is_space)),
        "isupper" => python::cased(text, u8::is_ascii_uppercase, u8::is_ascii_lowercase),
        "islower" => python::cased(text, u8::is_ascii_lowercase, u8::is_ascii_uppercase),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    is.map(Value::from).ok_or_else(unlike)
}
