//! What watches kvroute, in `deploy/prometheus`, `deploy/grafana` and `deploy/runbooks`: it is what it should be by itself, and by
//! a real Prometheus that scrapes a running node.
//!
//! Prometheus is found by `KVROUTE_TEST_PROMETHEUS`, promtool by `KVROUTE_TEST_PROMTOOL`, both also by their names.
mod asked;
mod dashboards;
mod promtool;
mod runbooks;
mod server;
mod texts;
mod world;
