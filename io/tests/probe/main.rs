//! The probe against engines' HTTP servers that the tests script, over real connections.
//!
//! Nothing here asserts that something takes time: what is to happen is waited for, and what is not to happen is
//! looked for once a later probe is known to have been judged.
mod engine;
mod failures;
mod lives;
mod loads;
mod node;
mod ranks;
mod rig;
