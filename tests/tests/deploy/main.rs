//! What is under `deploy`: charts and manifests rendered by the real tools, and what has to hold of all they render.
//!
//! Tools are found by variables or by their names: helm by `KVROUTE_TEST_HELM`, kubectl by `KVROUTE_TEST_KUBECTL`,
//! kubernetes-validate (the API's schemas, on PyPI) by `KVROUTE_TEST_KUBERNETES_VALIDATE`.
mod config;
mod demands;
mod helm;
mod host;
mod image;
mod kustomize;
mod network;
mod objects;
mod samples;
mod schema;
mod script;
mod script_api;
