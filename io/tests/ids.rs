//! Token ids read without a parser are what serde_json reads: same accept or reject, same values. The same
//! comparison as the fuzz target `token_ids`, on bodies that are nearly right.
use kvroute::ids::{self, Ids};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;

#[derive(Debug, PartialEq, Deserialize)]
struct Whole {
    token_ids: Option<Vec<u32>>,
    model: Option<String>,
    limit: Option<u64>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Rest {
    model: Option<String>,
    limit: Option<u64>,
}

/// Whether the list was taken out, after comparison with serde_json.
fn compare(body: &[u8], found: &mut Ids) -> bool {
    let text = String::from_utf8_lossy(body);
    let Some(list) = ids::split(body, "token_ids", found) else {
        return false;
    };
    let rest = [&body[..list.start], b"null", &body[list.end..]].concat();
    let rest = serde_json::from_slice::<Rest>(&rest);
    match serde_json::from_slice::<Whole>(body) {
        Ok(whole) => {
            assert_eq!(whole.token_ids.as_deref(), Some(found.as_slice()), "{text}");
            let (model, limit) = (whole.model, whole.limit);
            assert_eq!(Rest { model, limit }, rest.unwrap(), "{text}");
        }
        Err(error) => assert!(rest.is_err(), "{error}: {text}"),
    }
    true
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0_u32..32, any::<u32>()).prop_map(|(bits, id)| (id >> bits).to_string()),
        1 => any::<u64>().prop_map(|id| id.to_string()),
        1 => select(vec!["0", "00", "-0", "1.0", "1e2", "null", "4294967295", "4294967296", "99999999"])
            .prop_map(str::to_owned),
    ]
}

fn list() -> impl Strategy<Value = String> {
    let separator = select(vec![",", ", ", ",", ", ", " ,", ",\n", ",,"]);
    let usual = (
        prop::collection::vec(any::<u32>(), 0..200),
        select(vec![",", ", "]),
    );
    prop_oneof![
        2 => usual.prop_map(|(ids, separator)| {
            let texts: Vec<String> = ids.iter().map(|id| (id >> (id % 29)).to_string()).collect();
            format!("[{}]", texts.join(separator))
        }),
        1 => (prop::collection::vec(number(), 0..40), separator).prop_map(|(ids, separator)| format!("[{}]", ids.join(separator))),
    ]
}

fn body() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        Just(r#""model":"a\"],[b\\""#.to_owned()),
        Just(r#" "limit" : 7 "#.to_owned()),
        Just(r#""other":{"token_ids":[1,[{"x":"}"}]]}"#.to_owned()),
        Just(r#""token\u005fids":null"#.to_owned()),
        Just(r#""limit":"x""#.to_owned()),
    ];
    let fields = prop::collection::vec(field, 0..3);
    (list(), fields.clone(), fields).prop_map(|(list, before, after)| {
        let list = [format!("\"token_ids\":{list}")];
        let fields: Vec<String> = before.into_iter().chain(list).chain(after).collect();
        format!("{{{}}}", fields.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

    #[test]
    fn bodies_are_read_as_serde_json_reads_them(body in body()) {
        compare(body.as_bytes(), &mut Ids::new());
    }

    #[test]
    fn bodies_with_wrong_bytes_are_read_as_serde_json_reads_them(
        body in body(),
        wrong in prop::collection::vec((any::<Index>(), select(b"0123456789,, []{}\"\\:-.en\n\xff\x00".to_vec())), 1..4),
        cut in any::<Index>(),
    ) {
        let mut bytes = body.into_bytes();
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut found = Ids::new();
        compare(&bytes, &mut found);
        compare(&bytes[..cut.index(bytes.len())], &mut found);
    }
}

#[test]
fn what_clients_write_needs_no_parser() {
    let ids: Vec<u32> = (0..5_000).map(|n| n * 25).collect();
    let compact = serde_json::to_string(&ids).unwrap();
    // Python's json.dumps puts a blank behind each comma.
    for list in [compact.clone(), compact.replace(',', ", ")] {
        let body = format!("{{\"model\": \"m\", \"token_ids\": {list}, \"limit\": 3}}");
        assert!(compare(body.as_bytes(), &mut Ids::new()));
    }
}
