//! Where a request should go: `/v1/route`, Envoy's and nginx's checks, and what became of it.
//!
//! A question's way: `request` or `authz` reads it, `choice` finds who may be the target, has one chosen and booked, and
//! remembers the decision in `decisions`, `learn` has it learnt what the target will hold, `render` renders it. `feedback` and `explain`
//! look decisions up, and `shadow` compares them with what the caller did.
pub(super) mod authz;
mod choice;
mod credit;
mod decisions;
pub(super) mod explain;
pub(super) mod feedback;
mod learn;
mod render;
mod request;
mod shadow;

pub(super) use choice::Router;
pub(super) use decisions::{Seat, seats};
pub(super) use request::answer;
