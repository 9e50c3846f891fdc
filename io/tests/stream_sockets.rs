//! From fake engines over real sockets, through the IO threads, to lookups in the index.
#[path = "stream_sockets/distrust.rs"]
mod distrust;
#[path = "stream_sockets/events.rs"]
mod events;
#[path = "stream_sockets/faults.rs"]
mod faults;
#[path = "stream_sockets/history.rs"]
mod history;
#[path = "stream_sockets/lives.rs"]
mod lives;
#[path = "stream_sockets/many.rs"]
mod many;
#[path = "stream_sockets/replays.rs"]
mod replays;
#[path = "stream_sockets/rig.rs"]
mod rig;
#[path = "stream_sockets/warm.rs"]
mod warm;
