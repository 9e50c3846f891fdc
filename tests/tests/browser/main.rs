//! The console in a real browser, against running nodes: what it shows is compared with what the test knows by itself.
//!
//! chromium is found by `KVROUTE_TEST_CHROMIUM`, or by its names. Screenshots of each view are kept in `console-screenshots` of
//! the target folder.
mod access;
mod console;
mod demo;
mod files;
mod fleet;
mod flow;
mod harness;
mod health;
mod hostile;
mod keyboard;
mod looks;
mod many;
mod outage;
mod prefixes;
mod tries;
mod world;
