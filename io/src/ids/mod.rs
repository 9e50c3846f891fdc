//! Token ids out of JSON text, without a parser on their way: they are nearly all of a lookup's body.
//!
//! [`split`] finds the list in an object and reads it; whatever it does not expect (other white space than
//! a blank after a comma, numbers that are not plain `u32`, escapes in a key, a key that comes twice, text
//! that is not JSON) it leaves to a real parser, by saying nothing. So it never refuses, and what it
//! accepts is what the parser would have read: `split` takes out the list, and the parser reads the rest.
//!
//! Pure: bytes in, numbers out. Fuzzed against serde_json (`tests/fuzz`, target `token_ids`).
mod avx2;
mod find;
mod list;
mod mask;

pub use find::split;
pub use list::Ids;
