//! A real node that finds its engines in Kubernetes: pods by their labels, through all that happens to pods, to
//! watches and to permissions. The API server is the one of this crate; events are real.
mod access;
mod annotations;
mod found;
mod life;
mod trouble;
mod world;
