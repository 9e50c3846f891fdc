//! How busy each worker is: what its engine last said, corrected by what this node has sent it since.
//!
//! # What is known
//!
//! A scrape was asked at a time T and says how many requests the engine had: S. They are everybody's: other
//! replicas', and those of clients that asked nobody. The node counts its own: `booked` with each choice, `finished` with
//! feedback, `expired` when nobody told for the time that a request takes at most.
//!
//! # How it is put together
//!
//! S has seen what was booked before T, so what comes on top of it is what was booked since, and what leaves it is
//! what finished since:
//!
//! ```text
//! requests = S + (booked since T) - (finished since T), not below 0, not above S + (own requests in flight)
//! ```
//!
//! - A request booked and finished since T cancels out; one booked before and finished since was in S, and leaves it.
//! - One that expires was either in S or not, and S knows better: nothing is taken away. If it was booked since
//!   T (scrapes are rarer than expiry, or fail) the upper bound takes it away, since it is in flight no more.
//! - The requests of others show with the next scrape, and until then not at all.
//! - Wrong until the next scrape by the requests that were on their way at T: booked before and not with the engine yet (too
//!   low), finished at the engine before T and told of after it (too low).
//!
//! Without a scrape, or with one that is too old ([`Clock`]), the own requests in flight are all that is known.
//!
//! A scrape is kept as the difference `S - booked + finished` at T, in one word, to which today's counts are added: no reader
//! adds the counts since one scrape to another. The other numbers of a scrape are words of their own; who reads while they
//! are replaced may see some of either for that once.
//!
//! Tokens: `active` is what the scrape says is in use, and the prompts booked since; without a scrape the prompts in
//! flight. `queued` is the uncached tokens booked since the scrape, and for each request that the scrape saw waiting the mean of
//! the own ones in flight; without a scrape those of all in flight, since nobody tells when a prompt is computed.
//!
//! # Booking
//!
//! A choice reads all loads, and books its target by compare-and-swap from the count that it read ([`WorkerLoad::book`]). If
//! that fails somebody else was faster, and the choice is made anew. What it guarantees: **the target's own count is the one that the
//! choice saw.** The others' may have moved meanwhile: by bookings, which make the target no worse a choice, or by requests
//! that ended, as if they had right after. So of choices for the fewest requests the target truly had the
//! fewest when it was booked, however many threads choose at once.
//!
//! # What ends a booking
//!
//! Exactly one of: feedback, if it comes in time, or expiry. Both take it from the same word of the same [`Wheel`] slot.
//! There is no queue of bookings: a worker keeps how much was booked in each of the latest periods, and what is left of a period that
//! is too long ago expires at once. So memory is constant, a decision that nobody remembers any more expires
//! all the same, and a worker that is gone takes its bookings with it.
//!
//! All atomics are Relaxed: each is a number of its own, and no other memory is read because of it.
mod account;
mod clock;
mod combine;
mod wheel;
mod worker;

pub use account::Counts;
pub use clock::{Clock, Moment};
pub use wheel::{SLOTS, Wheel};
pub use worker::{Booking, Marks, Reading, Scrape, WorkerLoad};
