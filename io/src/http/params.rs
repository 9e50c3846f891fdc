//! Query strings and percent-encoded paths.
use super::error::ApiError;
use percent_encoding::percent_decode;
use std::borrow::Cow;

/// The pairs of a query string, still encoded; a pair without `=` has an empty value.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes a value of a query string, where `+` is a blank.
pub(super) fn decode_value(name: &str, value: &str) -> Result<String, ApiError> {
    let value = value.replace('+', " ");
    utf8(name, &value).map(Cow::into_owned)
}

/// Decodes the rest of a path.
pub(super) fn decode_path<'p>(name: &str, path: &'p str) -> Result<Cow<'p, str>, ApiError> {
    utf8(name, path)
}

fn utf8<'t>(name: &str, text: &'t str) -> Result<Cow<'t, str>, ApiError> {
    percent_decode(text.as_bytes())
        .decode_utf8()
        .map_err(|_| ApiError::field(name, format!("{text:?} is not UTF-8 once decoded")))
}

/// Decodes a number.
pub(super) fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, ApiError> {
    let text = decode_value(name, value)?;
    text.parse()
        .map_err(|_| ApiError::field(name, format!("{text:?} is not a number in range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_string_is_taken_apart_before_it_is_decoded() {
        let decoded: Vec<_> = pairs("a=1%2C2&&b=x+y%2Bz&c&d=%3D%26=")
            .map(|(name, value)| (name, decode_value(name, value).unwrap()))
            .collect();
        let expected = [("a", "1,2"), ("b", "x y+z"), ("c", ""), ("d", "=&=")];
        assert_eq!(decoded, expected.map(|(n, v)| (n, v.to_owned())));
        assert!(decode_value("a", "%ff").is_err());
        assert_eq!(decode_path("pod", "ns%2Fa+b").unwrap(), "ns/a+b");
    }

    #[test]
    fn numbers_are_in_range() {
        assert_eq!(number::<u32>("n", "4294967295").unwrap(), u32::MAX);
        for bad in ["", "-1", "4294967296", "1.0", "x"] {
            assert!(number::<u32>("n", bad).is_err(), "{bad:?}");
        }
    }
}
