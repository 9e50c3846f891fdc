//! The Kubernetes API server of the tests is what clients of a real one expect: asked by a plain HTTP client, and by
//! kubectl.
mod client;
mod faults;
mod kubectl;
mod lists;
mod watches;
