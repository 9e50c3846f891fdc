//! The JSON of a dump, event by event.
use super::places::Places;
use super::{Block, Context, Filter, Held, Take};
use crate::limits::DUMP_EVENT_BYTES_MAX;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};

/// Why a dump cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It is not what a node answers, or breaks off.
    #[error("the answer is no dump, or breaks off: {0}")]
    Json(#[from] serde_json::Error),
    /// What was read cannot be shown.
    #[error("cannot print: {0}")]
    Take(io::Error),
}

#[derive(Deserialize)]
struct Event {
    worker_id: Name,
    storage_tier: String,
    event: Inner,
}

/// Names that are numbers are said as such.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct Inner {
    data: Data,
    dp_rank: u32,
}

#[derive(Deserialize)]
struct Data {
    stored: Stored,
}

#[derive(Deserialize)]
struct Stored {
    parent_hash: Option<u64>,
    blocks: Vec<Block>,
}

/// Reads a dump; what the filter lets pass goes to `take`. O(bytes).
///
/// # Errors
/// Bytes that are no dump, one that breaks off, and whatever `take` says.
pub fn read(from: impl Read, filter: &Filter, take: &mut dyn Take) -> Result<(), DumpError> {
    let since = Cell::new(0);
    let guarded = Guarded {
        from,
        since: &since,
    };
    let mut reading = Reading {
        filter,
        take,
        since: &since,
        failed: None,
        places: Places::default(),
    };
    let mut json = serde_json::Deserializer::from_reader(io::BufReader::new(guarded));
    let read = All(&mut reading).deserialize(&mut json);
    if let Some(error) = reading.failed {
        return Err(DumpError::Take(error));
    }
    read?;
    Ok(json.end()?)
}

/// Refuses to read on when one event has no end.
struct Guarded<'c, R> {
    from: R,
    /// Bytes since the last event was complete.
    since: &'c Cell<u64>,
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        let since = self.since.get() + read as u64;
        self.since.set(since);
        match since > DUMP_EVENT_BYTES_MAX {
            true => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("one event has more than {DUMP_EVENT_BYTES_MAX} bytes"),
            )),
            false => Ok(read),
        }
    }
}

struct Reading<'r> {
    filter: &'r Filter,
    take: &'r mut dyn Take,
    since: &'r Cell<u64>,
    /// What `take` said.
    failed: Option<io::Error>,
    places: Places,
}

impl Reading<'_> {
    fn wants(&self, context: &Context) -> bool {
        let Some(model) = &self.filter.model else {
            return true;
        };
        context.model == *model || context.adapter.as_ref() == Some(model)
    }

    fn event<E: Error>(&mut self, context: &Context, event: &Event) -> Result<(), E> {
        self.since.set(0);
        let pod = match &event.worker_id {
            Name::Number(number) => number.to_string(),
            Name::Text(name) => name.clone(),
        };
        let rank = event.event.dp_rank;
        let filter = self.filter;
        let other_pod = filter.pod.as_ref().is_some_and(|wanted| *wanted != pod);
        if !self.wants(context) || other_pod || filter.rank.is_some_and(|wanted| wanted != rank) {
            return Ok(());
        }
        let Stored {
            parent_hash,
            blocks,
        } = &event.event.data.stored;
        self.places
            .begin(context, &pod, rank, filter.prefix.as_ref());
        let run = self.places.run(*parent_hash, blocks);
        if run.wanted.is_empty() {
            return Ok(());
        }
        let skipped = run.wanted.start;
        let parent = match skipped.checked_sub(1) {
            Some(before) => Some(blocks[before].hash),
            None => *parent_hash,
        };
        let taken = self.take.held(&Held {
            context,
            pod: &pod,
            rank,
            tier: &event.storage_tier,
            parent,
            position: run.position.map(|position| position + skipped as u32),
            of_prefix: run.of_prefix,
            blocks: &blocks[run.wanted],
        });
        self.taken(taken)
    }

    fn taken<E: Error>(&mut self, taken: io::Result<()>) -> Result<(), E> {
        taken.map_err(|error| {
            let text = error.to_string();
            self.failed = Some(error);
            E::custom(text)
        })
    }
}

/// The whole: contexts by key.
struct All<'a, 'r>(&'a mut Reading<'r>);
/// One context.
struct Entry<'a, 'r>(&'a mut Reading<'r>);
/// Its events.
struct Events<'a, 'r>(&'a mut Reading<'r>, &'a Context);

impl<'de> DeserializeSeed<'de> for All<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for All<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of contexts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<String>()?.is_some() {
            self.0.since.set(0);
            map.next_value_seed(Entry(self.0))?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Entry<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a context with model_name, block_size and events")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut model, mut block_size, mut adapter) = (None, None, None);
        let mut context = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "model_name" => model = Some(map.next_value::<String>()?),
                "lora_name" => adapter = map.next_value::<Option<String>>()?,
                "block_size" => block_size = Some(map.next_value::<u32>()?),
                "events" => {
                    let missing = |name| A::Error::custom(format!("events before {name}"));
                    let of = context.insert(Context {
                        model: model.clone().ok_or_else(|| missing("model_name"))?,
                        adapter: adapter.clone(),
                        block_size: block_size.ok_or_else(|| missing("block_size"))?,
                    });
                    map.next_value_seed(Events(self.0, of))?;
                }
                "left_out" => {
                    let what: Value = map.next_value()?;
                    if let Some(context) = context.as_ref().filter(|of| self.0.wants(of)) {
                        let taken = self.0.take.left_out(context, &what);
                        self.0.taken(taken)?;
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Events<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of stored events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while let Some(event) = events.next_element::<Event>()? {
            self.0.event(self.1, &event)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::Prefix;
    use serde_json::json;

    #[derive(Default)]
    struct Lines(Vec<String>);

    impl Take for Lines {
        fn held(&mut self, held: &Held<'_>) -> io::Result<()> {
            let names: Vec<u64> = held.blocks.iter().map(|block| block.hash).collect();
            let Held {
                pod,
                rank,
                tier,
                parent,
                position,
                of_prefix,
                ..
            } = held;
            let line = format!("{pod}#{rank} {tier} {parent:?} {position:?} {of_prefix} {names:?}");
            self.0.push(line);
            Ok(())
        }

        fn left_out(&mut self, context: &Context, what: &Value) -> io::Result<()> {
            self.0.push(format!("{} {what}", context.model));
            Ok(())
        }
    }

    fn event(pod: &Value, tier: &str, parent: Option<u64>, names: &[u64]) -> Value {
        // The key of a block is its name and a hundred.
        let blocks = names.iter().map(
            |name| json!({"block_hash": name, "tokens_hash": name + 100, "mm_extra_info": null}),
        );
        let blocks: Vec<_> = blocks.collect();
        let stored = json!({"parent_hash": parent, "start_position": null, "blocks": blocks});
        json!({"worker_id": pod, "storage_tier": tier, "event": {"event_id": 0, "data": {"stored": stored}, "dp_rank": 0}})
    }

    fn dump() -> String {
        let of = |pod: &Value| {
            [
                event(pod, "device", None, &[1, 2, 3]),
                event(pod, "device", Some(2), &[4, 5]),
                event(pod, "disk", Some(99), &[6]),
            ]
        };
        let events = [of(&json!("a")), of(&json!(7))].concat();
        // By hand: the order of the keys matters.
        format!(
            r#"{{"m:default":{{"model_name":"m","lora_name":null,"block_size":4,"events":{},"left_out":{{"waiting":1}}}}}}"#,
            json!(events)
        )
    }

    fn read_all(text: &str, filter: &Filter) -> Result<Vec<String>, String> {
        let mut lines = Lines::default();
        let read = read(text.as_bytes(), filter, &mut lines);
        read.map(|()| lines.0).map_err(|error| error.to_string())
    }

    #[test]
    fn events_have_their_place_in_the_chain() {
        let all = read_all(&dump(), &Filter::default()).unwrap();
        let expected = [
            "a#0 device None Some(0) 0 [1, 2, 3]",
            "a#0 device Some(2) Some(2) 0 [4, 5]",
            "a#0 disk Some(99) None 0 [6]",
            "7#0 device None Some(0) 0 [1, 2, 3]",
            "7#0 device Some(2) Some(2) 0 [4, 5]",
            "7#0 disk Some(99) None 0 [6]",
            "m {\"waiting\":1}",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn filters_let_pass_what_they_say() {
        let lines = |filter: Filter| read_all(&dump(), &filter).unwrap();
        let model = |name: &str| Filter {
            model: Some(name.to_owned()),
            ..Filter::default()
        };
        assert_eq!(lines(model("x")), [""; 0]);
        assert_eq!(lines(model("m")).len(), 7);
        let pod = Filter {
            pod: Some("7".to_owned()),
            ..Filter::default()
        };
        assert_eq!(lines(pod.clone()).len(), 4);
        let keys = Filter {
            prefix: Some(Prefix::Keys([(4, vec![101, 102, 104])].into())),
            ..pod.clone()
        };
        let expected = [
            "7#0 device None Some(0) 2 [1, 2]",
            "7#0 device Some(2) Some(2) 1 [4, 5]",
            "m {\"waiting\":1}",
        ];
        assert_eq!(lines(keys), expected);
        let names = Filter {
            prefix: Some(Prefix::Names([2].into())),
            ..pod
        };
        let expected = [
            "7#0 device Some(1) Some(1) 1 [2, 3]",
            "7#0 device Some(2) Some(2) 0 [4, 5]",
            "m {\"waiting\":1}",
        ];
        assert_eq!(lines(names), expected);
    }

    #[test]
    fn what_is_no_dump_is_an_error() {
        let whole = dump();
        for length in [0, 1, 30, whole.len() / 2, whole.len() - 1] {
            assert!(read_all(&whole[..length], &Filter::default()).is_err());
        }
        for text in [
            "[]",
            r#"{"x":{"events":[]}}"#,
            "<html>",
            &format!("{whole}x"),
        ] {
            assert!(read_all(text, &Filter::default()).is_err(), "{text}");
        }
        let endless = io::repeat(b'[').take(1 << 40);
        let mut lines = Lines::default();
        let endless = br#"{"x":{"y":""#.chain(endless);
        let error = read(endless, &Filter::default(), &mut lines).unwrap_err();
        assert!(
            error.to_string().contains("one event has more than"),
            "{error}"
        );
    }
}
