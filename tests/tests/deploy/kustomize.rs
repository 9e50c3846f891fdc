//! The overlays of `deploy/kustomize`, built by kubectl.
use crate::demands::{Facts, Rendered};
use crate::network::Pod;
use crate::objects::{kubectl, list, named, namespace, one, parse, printed, utilization};
use kvroute_tests::tidy::root;

fn build(folder: &str) -> Option<Vec<serde_json::Value>> {
    let kubectl = kubectl()?;
    let path = root().join("deploy/kustomize").join(folder);
    let told = printed(&kubectl, &["kustomize", path.to_str().expect("UTF-8")]);
    Some(parse(&told))
}

fn facts(engine: &str, engine_is_closed: bool) -> Facts {
    Facts {
        gateway: Pod::new("gateways", &[]),
        stranger: None,
        engine: Pod::new(engine, &[("model.aibrix.ai/name", "llama-8b")]),
        engine_ports: vec![5557, 5558, 8000],
        engine_is_closed,
    }
}

#[test]
fn plain() {
    let Some(objects) = build("overlays/plain") else {
        return;
    };
    assert!(objects.iter().all(|object| namespace(object) == "serving"));
    let rendered = Rendered::check(objects, &facts("serving", true));
    assert_eq!(rendered.container()["image"], "kvroute:0.1.0");
    // The settings are mounted by a name that changes with them.
    let map = &named(&rendered.pod()["volumes"], "config")["configMap"]["name"];
    let map = map.as_str().expect("a name");
    assert!(map.starts_with("kvroute-") && map.len() > "kvroute-".len());
}

#[test]
fn aibrix() {
    let Some(objects) = build("overlays/aibrix") else {
        return;
    };
    let rendered = Rendered::check(objects, &facts("default", false));
    assert_eq!(
        namespace(one(rendered.objects(), "Deployment")),
        "aibrix-system"
    );
    let env = list(&rendered.container()["env"]);
    assert!(env.iter().all(|variable| {
        let name = variable["name"].as_str().expect("a name");
        kvroute::config::Aibrix::names().any(|known| known == name)
    }));
    assert_eq!(env.len(), 4);
}

/// With both components: each replica is scraped once, and the autoscaler decides how many there are.
#[test]
fn scraped_and_scaled() {
    let Some(objects) = build("overlays/full") else {
        return;
    };
    assert!(objects.iter().all(|object| namespace(object) == "serving"));
    let rendered = Rendered::check(objects, &facts("serving", true));
    one(rendered.objects(), "ServiceMonitor");
    let scaler = one(rendered.objects(), "HorizontalPodAutoscaler");
    // HTTP threads have half of the cores: more than that they alone never use.
    assert!(utilization(scaler) < 50);
}
