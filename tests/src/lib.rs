//! Helpers shared by the tests of this package.
pub mod apiserver;
pub mod browser;
pub mod dashboards;
pub mod gateways;
pub mod texts;
pub mod tidy;
