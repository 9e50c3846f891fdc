//! `kvroute record` and `kvroute replay`: what an engine publishes, kept in a file and published again.
//!
//! [`record`](mod@record) writes messages into a [`file`](mod@file), [`scrub`] replaces what is private in them by [`keyed`] values, [`play`](mod@play)
//! publishes them again.
pub mod file;
pub mod keyed;
pub mod play;
pub mod record;
pub mod scrub;
