//! Batches as engines of each age write them: events to MessagePack.
//!
//! | dialect | events | fields |
//! |---|---|---|
//! | 0.9 | arrays | no medium, adapter by number, signed hashes; the batch has no rank |
//! | 0.12 | arrays | a medium; adapter by number |
//! | 0.23 | arrays | adapter's name, extra keys, group and its kind |
//! | 0.32 | maps | the same; fields with a default are left out; a topic in replays |
use super::cache::{CacheEvent, Link};
use super::{Framing, prompts::Scope};
use kvroute_engine::types::Tier;
use rmp::encode as write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A vLLM version, as far as its events differ from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// vLLM 0.9.0.
    V0_9,
    /// vLLM 0.10.2 to 0.13.
    V0_12,
    /// vLLM 0.22 and 0.23.
    V0_23,
    /// vLLM 0.26 and later.
    V0_32,
}

impl Dialect {
    /// All, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_9, Self::V0_12, Self::V0_23, Self::V0_32];

    /// Its name, as in `--dialect`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_9 => "0.9",
            Self::V0_12 => "0.12",
            Self::V0_23 => "0.23",
            Self::V0_32 => "0.32",
        }
    }

    /// Whether events say on which medium a block is: only then can copies elsewhere be told.
    #[must_use]
    pub fn says_medium(self) -> bool {
        self >= Self::V0_12
    }

    /// Whether events say what else than tokens is in a block's hash, such as salts.
    #[must_use]
    pub fn says_extra(self) -> bool {
        self >= Self::V0_23
    }

    /// Whether hashes can be byte strings.
    #[must_use]
    pub fn has_bytes(self) -> bool {
        self >= Self::V0_12
    }

    /// The frames of its replays.
    #[must_use]
    pub fn framing(self) -> Framing {
        match self {
            Self::V0_32 => Framing::Four,
            Self::V0_9 | Self::V0_12 | Self::V0_23 => Framing::Three,
        }
    }

    /// The adapter that the node makes of a scope's; `None` for the base model.
    #[must_use]
    pub fn adapter(self, scope: &Scope) -> Option<String> {
        match (scope.adapter, self) {
            (0, _) => None,
            (number, Self::V0_9 | Self::V0_12) => Some(format!("lora_id:{number}")),
            (number, Self::V0_23 | Self::V0_32) => Some(adapter_name(number)),
        }
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|dialect| dialect.as_str() == name);
        found.ok_or_else(|| format!("{name:?} is none of 0.9, 0.12, 0.23, 0.32"))
    }
}

fn adapter_name(number: u32) -> String {
    format!("adapter-{number}")
}

/// Writes one engine's batches.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    /// Its version.
    pub dialect: Dialect,
    /// Hashes are byte strings, where the version has them.
    pub bytes: bool,
    /// Fields of versions to come are added.
    pub unknown_fields: bool,
    /// Tokens per block.
    pub block_size: u32,
    /// Its data-parallel rank.
    pub rank: u32,
}

impl Encoder {
    /// A batch. `time` is when the engine says it was made, in seconds since 1970.
    #[must_use]
    pub fn batch(&self, time: f64, events: &[CacheEvent]) -> Vec<u8> {
        let mut out = Out::default();
        let says_rank = self.dialect != Dialect::V0_9;
        out.array(if says_rank { 3 } else { 2 });
        out.float(time);
        out.array(events.len());
        for event in events {
            self.event(&mut out, event);
        }
        if says_rank {
            out.number(self.rank.into());
        }
        out.0
    }

    fn event(&self, out: &mut Out, event: &CacheEvent) {
        let maps = self.dialect >= Dialect::V0_32;
        match event {
            CacheEvent::Cleared if maps => {
                out.map(1);
                out.pair("type").text("AllBlocksCleared");
            }
            CacheEvent::Cleared => {
                out.array(1);
                out.text("AllBlocksCleared");
            }
            CacheEvent::Removed { tier, hashes } if maps => self.removed_map(out, *tier, hashes),
            CacheEvent::Removed { tier, hashes } => self.removed_array(out, *tier, hashes),
            CacheEvent::Stored {
                tier,
                links,
                placeholder,
            } => {
                let stored = Stored::new(self, *tier, links, *placeholder);
                match maps {
                    true => self.stored_map(out, &stored),
                    false => self.stored_array(out, &stored),
                }
            }
        }
    }

    fn stored_map(&self, out: &mut Out, stored: &Stored<'_>) {
        let says_extra = stored.has_extra();
        let unknown = self.unknown_fields;
        out.map(10 + usize::from(says_extra) + 2 * usize::from(unknown));
        out.pair("type").text("BlockStored");
        self.hashes(out.pair("block_hashes"), stored.hashes());
        self.parent(out.pair("parent_block_hash"), stored);
        out.pair("token_ids").tokens(stored);
        out.pair("block_size").number(stored.block_size.into());
        out.pair("lora_id").nil();
        out.pair("medium").text(medium(stored.tier));
        out.pair("lora_name").optional(stored.adapter.as_deref());
        // Between the others, as a field would be that a later version declares there.
        if unknown {
            out.pair("provenance").array(2);
            out.map(1);
            out.pair("deep").nil();
            out.number(7);
        }
        if says_extra {
            out.pair("extra_keys").extra(stored);
        }
        out.pair("group_idx").number(0);
        out.pair("kv_cache_spec_kind").text("full_attention");
        if unknown {
            out.pair("session_id").text("s");
        }
    }

    fn stored_array(&self, out: &mut Out, stored: &Stored<'_>) {
        let fields = match self.dialect {
            Dialect::V0_9 => 6,
            Dialect::V0_12 => 7,
            Dialect::V0_23 | Dialect::V0_32 => 12,
        };
        let unknown = self.unknown_fields && self.dialect >= Dialect::V0_23;
        out.array(fields + usize::from(unknown));
        out.text("BlockStored");
        self.hashes(out, stored.hashes());
        self.parent(out, stored);
        out.tokens(stored);
        out.number(stored.block_size.into());
        match (stored.scope.adapter, self.dialect) {
            (0, _) | (_, Dialect::V0_23 | Dialect::V0_32) => out.nil(),
            (number, Dialect::V0_9 | Dialect::V0_12) => out.number(number.into()),
        }
        if self.dialect.says_medium() {
            out.text(medium(stored.tier));
        }
        if self.dialect >= Dialect::V0_23 {
            out.optional(stored.adapter.as_deref());
            match stored.has_extra() {
                true => out.extra(stored),
                false => out.nil(),
            }
            out.number(0);
            out.text("full_attention");
            out.nil();
        }
        if unknown {
            out.map(1);
            out.pair("later").array(0);
        }
    }

    fn removed_map(&self, out: &mut Out, tier: Tier, hashes: &[u64]) {
        out.map(4 + usize::from(self.unknown_fields));
        out.pair("type").text("BlockRemoved");
        self.hashes(out.pair("block_hashes"), hashes.iter().copied());
        out.pair("medium").text(medium(tier));
        out.pair("group_idx").number(0);
        if self.unknown_fields {
            out.pair("ownership").array(0);
        }
    }

    fn removed_array(&self, out: &mut Out, tier: Tier, hashes: &[u64]) {
        let fields = match self.dialect {
            Dialect::V0_9 => 2,
            Dialect::V0_12 => 3,
            Dialect::V0_23 | Dialect::V0_32 => 4,
        };
        out.array(fields);
        out.text("BlockRemoved");
        self.hashes(out, hashes.iter().copied());
        if self.dialect.says_medium() {
            out.text(medium(tier));
        }
        if self.dialect >= Dialect::V0_23 {
            out.number(0);
        }
    }

    fn hashes(&self, out: &mut Out, hashes: impl ExactSizeIterator<Item = u64>) {
        out.array(hashes.len());
        hashes.for_each(|hash| self.hash(out, hash));
    }

    fn parent(&self, out: &mut Out, stored: &Stored<'_>) {
        match stored.parent {
            Some(parent) => self.hash(out, parent),
            None => out.nil(),
        }
    }

    fn hash(&self, out: &mut Out, hash: u64) {
        if self.bytes && self.dialect.has_bytes() {
            // A digest whose last eight bytes are the number.
            let mut digest = [0xa5; 32];
            #[expect(clippy::big_endian_bytes, reason = "the wire is big endian")]
            digest[24..].copy_from_slice(&hash.to_be_bytes());
            out.bytes(&digest);
        } else if self.dialect == Dialect::V0_9 {
            out.signed(hash.cast_signed());
        } else {
            out.number(hash);
        }
    }
}

/// The medium's name, as engines say it.
const fn medium(tier: Tier) -> &'static str {
    match tier {
        Tier::Gpu => "GPU",
        Tier::Cpu => "CPU",
        Tier::Disk => "STORAGE",
    }
}

/// What a stored event says.
struct Stored<'a> {
    tier: Tier,
    links: &'a [Arc<Link>],
    /// Blocks whose tokens are said: all, or none.
    told: &'a [Arc<Link>],
    parent: Option<u64>,
    block_size: u32,
    scope: Scope,
    adapter: Option<String>,
}

impl<'a> Stored<'a> {
    fn new(encoder: &Encoder, tier: Tier, links: &'a [Arc<Link>], placeholder: bool) -> Self {
        let first = links.first();
        let scope = first.map_or_else(Scope::default, |link| link.scope.clone());
        let told = if placeholder { &[] } else { links };
        let before = first.and_then(|link| link.parent.as_ref());
        // vLLM 0.12 says the block size even where it says no tokens.
        let unsaid = placeholder && encoder.dialect > Dialect::V0_12;
        Self {
            tier,
            links,
            told,
            parent: before.filter(|_| !placeholder).map(|link| link.hash),
            block_size: if unsaid { 0 } else { encoder.block_size },
            adapter: encoder.dialect.adapter(&scope).filter(|_| !placeholder),
            scope,
        }
    }

    fn hashes(&self) -> impl ExactSizeIterator<Item = u64> {
        self.links.iter().map(|link| link.hash)
    }

    fn has_extra(&self) -> bool {
        self.told
            .iter()
            .any(|link| self.adapter.is_some() || salt(link).is_some())
    }
}

/// The salt of a block that says it: the first of a prompt.
fn salt(link: &Link) -> Option<&str> {
    let first = link.parent.is_none();
    link.scope.salt.as_deref().filter(|_| first)
}

/// MessagePack in the making. Writing to a vector cannot fail.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn array(&mut self, len: usize) {
        let _ = write::write_array_len(&mut self.0, len as u32);
    }

    fn map(&mut self, len: usize) {
        let _ = write::write_map_len(&mut self.0, len as u32);
    }

    fn text(&mut self, text: &str) {
        let _ = write::write_str(&mut self.0, text);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let _ = write::write_bin(&mut self.0, bytes);
    }

    fn number(&mut self, number: u64) {
        let _ = write::write_uint(&mut self.0, number);
    }

    fn signed(&mut self, number: i64) {
        let _ = write::write_sint(&mut self.0, number);
    }

    fn float(&mut self, number: f64) {
        let _ = write::write_f64(&mut self.0, number);
    }

    fn nil(&mut self) {
        let _ = write::write_nil(&mut self.0);
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.nil(),
        }
    }

    /// The key of a map's pair; its value is to follow.
    fn pair(&mut self, key: &str) -> &mut Self {
        self.text(key);
        self
    }

    fn tokens(&mut self, stored: &Stored<'_>) {
        self.array(stored.told.iter().map(|link| link.tokens.len()).sum());
        let tokens = stored.told.iter().flat_map(|link| link.tokens.iter());
        tokens.for_each(|&token| self.number(token.into()));
    }

    /// One entry for each block: the adapter's name, then the salt; nil without any.
    fn extra(&mut self, stored: &Stored<'_>) {
        self.array(stored.told.len());
        for link in stored.told {
            let salt = salt(link);
            let keys = usize::from(stored.adapter.is_some()) + usize::from(salt.is_some());
            if keys == 0 {
                self.nil();
                continue;
            }
            self.array(keys);
            stored.adapter.iter().for_each(|name| self.text(name));
            salt.into_iter().for_each(|salt| self.text(salt));
        }
    }
}

/// A batch as if it were made at this time; nothing else of it is changed. With its recorded time a recording shows how long ago that was,
/// in place of how late its events come. What does not begin with a time is left as it is.
#[must_use]
pub fn stamped(payload: &[u8], at: SystemTime) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if let [0x90..=0x9f, rest @ ..] = payload.as_mut_slice()
        && let Some(time) = rest.first_chunk_mut::<9>().filter(|time| time[0] == 0xcb)
        && let Ok(since) = at.duration_since(UNIX_EPOCH)
    {
        // There is room for it: it cannot fail.
        let _ = rmp::encode::write_f64(&mut time.as_mut_slice(), since.as_secs_f64());
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmpv::Value;

    fn link(parent: Option<Arc<Link>>, hash: u64, scope: &Scope) -> Arc<Link> {
        let tokens = [hash as u32 & 0xff, 2].into();
        let scope = scope.clone();
        Arc::new(Link {
            parent,
            hash,
            tokens,
            scope,
        })
    }

    fn read(dialect: Dialect, bytes: bool, events: &[CacheEvent]) -> Value {
        let encoder = Encoder {
            dialect,
            bytes,
            unknown_fields: false,
            block_size: 2,
            rank: 3,
        };
        let batch = encoder.batch(1.5, events);
        let mut rest = batch.as_slice();
        let value = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        value
    }

    /// Two blocks of a salted prompt for an adapter, one removal, one clear.
    fn events() -> Vec<CacheEvent> {
        let scope = Scope {
            adapter: 7,
            salt: Some("s".into()),
        };
        let first = link(None, u64::MAX, &scope);
        let second = link(Some(Arc::clone(&first)), 5, &scope);
        let links = vec![first, second];
        let (tier, placeholder) = (Tier::Gpu, false);
        vec![
            CacheEvent::Cleared,
            CacheEvent::Removed {
                tier: Tier::Cpu,
                hashes: vec![9],
            },
            CacheEvent::Stored {
                tier,
                links,
                placeholder,
            },
        ]
    }

    /// By hand from the table of versions in the recorded traffic's description.
    #[test]
    fn every_dialect_is_written_as_its_engine_writes_it() {
        let expected = [
            (
                Dialect::V0_9,
                r#"[1.5, [["AllBlocksCleared"], ["BlockRemoved", [9]], ["BlockStored", [-1, 5], nil, [255, 2, 5, 2], 2, 7]]]"#,
            ),
            (
                Dialect::V0_12,
                r#"[1.5, [["AllBlocksCleared"], ["BlockRemoved", [9], "CPU"], ["BlockStored", [18446744073709551615, 5], nil, [255, 2, 5, 2], 2, 7, "GPU"]], 3]"#,
            ),
            (
                Dialect::V0_23,
                r#"[1.5, [["AllBlocksCleared"], ["BlockRemoved", [9], "CPU", 0], ["BlockStored", [18446744073709551615, 5], nil, [255, 2, 5, 2], 2, nil, "GPU", "adapter-7", [["adapter-7", "s"], ["adapter-7"]], 0, "full_attention", nil]], 3]"#,
            ),
        ];
        for (dialect, text) in expected {
            let written = read(dialect, false, &events());
            assert_eq!(written.to_string(), text, "{dialect:?}");
        }
        let maps = read(Dialect::V0_32, false, &events());
        let stored = maps[1][2].as_map().unwrap();
        let of = |name: &str| {
            let found = stored.iter().find(|(key, _)| key.as_str() == Some(name));
            found.map(|(_, value)| value.to_string())
        };
        assert_eq!(of("type").as_deref(), Some(r#""BlockStored""#));
        assert_eq!(of("parent_block_hash").as_deref(), Some("nil"));
        assert_eq!(of("token_ids").as_deref(), Some("[255, 2, 5, 2]"));
        let extra = r#"[["adapter-7", "s"], ["adapter-7"]]"#;
        assert_eq!(of("extra_keys").as_deref(), Some(extra));
        assert_eq!(of("lora_name").as_deref(), Some(r#""adapter-7""#));
    }

    #[test]
    fn byte_hashes_end_with_the_number() {
        let batch = read(Dialect::V0_12, true, &events());
        let hash = &batch[1][2][1][1];
        let Value::Binary(bytes) = hash else {
            panic!("{hash}");
        };
        assert_eq!(
            (bytes.len(), &bytes[24..]),
            (32, &[0, 0, 0, 0, 0, 0, 0, 5][..])
        );
    }

    #[test]
    fn a_placeholder_says_hashes_only() {
        let events = [CacheEvent::Stored {
            tier: Tier::Cpu,
            links: vec![link(None, 5, &Scope::default())],
            placeholder: true,
        }];
        for (dialect, size) in [(Dialect::V0_12, 2), (Dialect::V0_23, 0)] {
            let stored = read(dialect, false, &events)[1][0].clone();
            let said = [&stored[1], &stored[3], &stored[4], &stored[6]].map(ToString::to_string);
            let size = format!("{size}");
            assert_eq!(said, ["[5]", "[]", size.as_str(), r#""CPU""#]);
        }
    }

    #[test]
    fn only_the_time_of_a_batch_is_changed() {
        let mut recorded = vec![0x93];
        rmp::encode::write_f64(&mut recorded, 1.5).unwrap();
        recorded.extend([0x90, 0xc0]);
        let at = UNIX_EPOCH + std::time::Duration::from_millis(2_500);
        let stamped = super::stamped(&recorded, at);
        assert_eq!(stamped.len(), recorded.len());
        assert_eq!(
            (&stamped[..2], &stamped[10..]),
            (&recorded[..2], &recorded[10..])
        );
        let time = rmp::decode::read_f64(&mut &stamped[1..]).unwrap();
        assert_eq!(time.to_bits(), 2.5_f64.to_bits());
    }

    #[test]
    fn what_has_no_such_time_is_left_as_it_is() {
        for other in [
            &[][..],
            &[0x93],
            &[0x93, 0xcb, 1, 2],
            &[0x93, 0x01, 0x90],
            &[0x81; 20],
        ] {
            assert_eq!(super::stamped(other, SystemTime::now()), other);
        }
    }
}
