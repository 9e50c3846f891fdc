//! Label selectors, as Kubernetes reads them: whether the syntax is right; pure.
//!
//! `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`: all of them must hold.

/// A label's name, or its value, has no more characters.
const NAME_MAX: usize = 63;
/// The domain before a label's name has no more.
const DOMAIN_MAX: usize = 253;

/// Checks a selector that is not empty. An error says which part is wrong, and what is possible.
pub(super) fn check(text: &str) -> Result<(), String> {
    parts(text)?.into_iter().try_for_each(requirement)
}

/// Splits at commas outside parentheses.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' if inside => return Err("a parenthesis within parentheses".to_owned()),
            b')' if !inside => return Err("a ) without its (".to_owned()),
            b'(' => inside = true,
            b')' => inside = false,
            b',' if !inside => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("a ( without its )".to_owned());
    }
    parts.push(&text[begin..]);
    Ok(parts)
}

fn requirement(part: &str) -> Result<(), String> {
    let part = part.trim();
    if part.is_empty() {
        return Err("an empty requirement beside a comma".to_owned());
    }
    if let Some(open) = part.find('(') {
        return set(&part[..open], &part[open + 1..]);
    }
    for operator in ["!=", "==", "="] {
        if let Some((key, of)) = part.split_once(operator) {
            return label(key.trim()).and_then(|()| value(of.trim()));
        }
    }
    for operator in ['>', '<'] {
        if let Some((key, number)) = part.split_once(operator) {
            label(key.trim())?;
            let number = number.trim();
            let is_number = number.parse::<i64>().is_ok();
            let wrong = || format!("{number:?} after {operator} is not a whole number");
            return is_number.then_some(()).ok_or_else(wrong);
        }
    }
    label(part.strip_prefix('!').unwrap_or(part).trim())
}

/// `KEY in` and what follows its parenthesis.
fn set(before: &str, rest: &str) -> Result<(), String> {
    let mut words = before.split_whitespace();
    let (key, operator) = (words.next(), words.next());
    match (key, operator, words.next()) {
        (Some(key), Some("in" | "notin"), None) => label(key)?,
        _ => {
            return Err(format!(
                "{:?} before (; KEY in or KEY notin is expected",
                before.trim()
            ));
        }
    }
    let Some((values, after)) = rest.split_once(')') else {
        return Err("a ( without its )".to_owned());
    };
    if !after.trim().is_empty() {
        return Err(format!("{:?} after )", after.trim()));
    }
    values.split(',').map(str::trim).try_for_each(value)
}

/// `NAME` or `DOMAIN/NAME`.
fn label(key: &str) -> Result<(), String> {
    let wrong = || format!("{key:?} is not a label's key, NAME or DOMAIN/NAME");
    let name = match key.split_once('/') {
        Some((domain, name)) if is_domain(domain) => name,
        Some(_) => return Err(wrong()),
        None => key,
    };
    (!name.is_empty() && is_name(name))
        .then_some(())
        .ok_or_else(wrong)
}

fn value(text: &str) -> Result<(), String> {
    let wrong =
        || format!("{text:?} is not a label's value, up to {NAME_MAX} letters, digits, -, _ and .");
    is_name(text).then_some(()).ok_or_else(wrong)
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let mut chars = text.chars();
    text.len() <= NAME_MAX
        && text.chars().all(inner)
        && edge(chars.next())
        && edge(text.chars().next_back())
}

fn is_domain(text: &str) -> bool {
    let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let part = |part: &str| {
        !part.is_empty()
            && part.chars().all(small)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= DOMAIN_MAX && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of Kubernetes' own parser and its documentation.
    #[test]
    fn what_kubernetes_takes_is_taken() {
        for text in [
            "x=a,y=b,z=c",
            "",
            "x!=a,y=b",
            "x=",
            "x= ",
            "x=,z= ",
            "x= ,z= ",
            "!x",
            "! x",
            "x>1",
            "x>1,z<5",
            "environment in (production, qa)",
            "tier notin (frontend,backend)",
            "x in ()",
            "x in (a,)",
            "partition,environment notin (qa)",
            "app.kubernetes.io/name == vllm",
            "model.aibrix.ai/name=llama-3.1_8b",
        ] {
            if !text.is_empty() {
                assert_eq!(check(text), Ok(()), "{text}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!("a={}", "x".repeat(64));
        for (text, named) in [
            ("x=a||y=b", "a||y=b"),
            ("x==a==b", "a==b"),
            ("x=a,", "empty"),
            (",x=a", "empty"),
            ("!x=a", "!x"),
            ("x<a", "\"a\""),
            ("x in a", "x in a"),
            ("x in (a", "without"),
            ("x in a)", "without"),
            ("x in ((a))", "within"),
            ("x on (a)", "x on"),
            ("in (a)", "in"),
            ("x in (a) b", "\"b\""),
            ("-x=a", "-x"),
            ("x=-a", "-a"),
            ("Upper/x=a", "Upper/x"),
            ("a/b/c=d", "a/b/c"),
            ("/x=a", "/x"),
            ("a/=b", "a/"),
            ("x=a b", "a b"),
            ("näme=x", "näme"),
            (&long, "xxx"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(named), "{named} in {error}");
        }
    }
}
