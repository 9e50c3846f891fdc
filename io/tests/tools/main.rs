//! The tools of the command line, run as they are against real sockets and a real node.
mod capture;
mod dump;
mod inspect;
mod rig;
mod top;
