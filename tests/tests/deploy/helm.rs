//! The chart, rendered by Helm with each file of values in its `ci` folder, and what it refuses.
use crate::demands::{Facts, Rendered};
use crate::network::Pod;
use crate::objects::{helm, kind, list, name, named, of, one, parse, printed, run, utilization};
use kvroute_tests::tidy::root;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const NAMESPACE: &str = "serving";

fn chart() -> String {
    let path = root().join("deploy/helm/kvroute");
    path.into_os_string().into_string().expect("UTF-8")
}

fn values(file: &str) -> String {
    format!("{}/ci/{file}-values.yaml", chart())
}

/// What the chart renders with a file of values and more of them.
fn render(helm: &Path, file: &str, more: &[&str]) -> Vec<Value> {
    let (chart, values) = (chart(), values(file));
    let arguments = [
        "template", "kvroute", &chart, "-n", NAMESPACE, "-f", &values,
    ];
    let told = printed(helm, &[&arguments, more].concat());
    let objects = parse(&told);
    for object in &objects {
        let wide = kind(object).starts_with("ClusterRole");
        let placed = !object["metadata"]["namespace"].is_null();
        assert!(placed != wide, "{} says its namespace", name(object));
    }
    let names: BTreeSet<_> = objects
        .iter()
        .map(|o| {
            (
                kind(o),
                &o["metadata"]["namespace"].as_str(),
                name(o).to_owned(),
            )
                .2
        })
        .collect();
    assert!(names.iter().all(|name| name.len() <= 63));
    objects
}

/// The facts of a rendering where everybody may ask.
fn open_facts(engine: Pod) -> Facts {
    Facts {
        gateway: Pod::new("gateways", &[("app", "envoy")]),
        stranger: None,
        engine,
        engine_ports: vec![5557, 5558, 8000],
        engine_is_closed: false,
    }
}

fn aibrix_engine(namespace: &str) -> Pod {
    Pod::new(namespace, &[("model.aibrix.ai/name", "llama-8b")])
}

#[test]
fn every_file_of_values_passes_lint() {
    let Some(helm) = helm() else { return };
    let folder = fs::read_dir(format!("{}/ci", chart())).expect("a folder");
    let files: Vec<PathBuf> = folder.map(|entry| entry.expect("a file").path()).collect();
    assert!(files.len() >= 4);
    for file in files {
        let file = file.to_str().expect("UTF-8");
        let told = printed(&helm, &["lint", "--strict", &chart(), "-f", file]);
        assert!(told.contains("0 chart(s) failed"), "{told}");
    }
}

#[test]
fn the_chart_as_it_comes() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, "default", &[]);
    let rendered = Rendered::check(objects, &open_facts(aibrix_engine(NAMESPACE)));
    assert_eq!(one(rendered.objects(), "Deployment")["spec"]["replicas"], 2);
    assert_eq!(rendered.container()["image"], "kvroute:0.1.0");
    // Engines elsewhere are not looked for, nor reached.
    let policies = of(rendered.objects(), "NetworkPolicy");
    let own = Pod::new(
        NAMESPACE,
        &[
            ("app.kubernetes.io/name", "kvroute"),
            ("app.kubernetes.io/instance", "kvroute"),
        ],
    );
    let reaches = |to: &Pod| crate::network::reaches(&policies, &own, to, 5557);
    assert!(reaches(&aibrix_engine(NAMESPACE)) && !reaches(&aibrix_engine("models")));
    assert!(!reaches(&Pod::new(NAMESPACE, &[("app", "database")])));
}

#[test]
fn all_namespaces_and_four_ranks() {
    let Some(helm) = helm() else { return };
    let facts = Facts {
        stranger: Some(Pod::new("default", &[("app", "envoy")])),
        engine_ports: vec![5557, 5560, 5657, 5660, 8000, 30000],
        engine_is_closed: true,
        ..open_facts(aibrix_engine("models"))
    };
    let rendered = Rendered::check(render(&helm, "everywhere", &[]), &facts);
    let config = rendered.config();
    // Large numbers are numbers, too: Helm reads them as floats.
    assert_eq!(config.body_max, 16_777_216);
    assert_eq!(config.discovery.dns.len(), 1);
    let policies = of(rendered.objects(), "NetworkPolicy");
    let stranger = Pod::new("default", &[]);
    let reaches = |port| crate::network::reaches(&policies, &stranger, &facts.engine, port);
    assert!(!reaches(5557) && !reaches(5660) && reaches(8000) && reaches(29500));
    let prometheus = Pod::new("monitoring", &[]);
    let own = Pod::new(
        NAMESPACE,
        &[
            ("app.kubernetes.io/name", "kvroute"),
            ("app.kubernetes.io/instance", "kvroute"),
        ],
    );
    assert!(crate::network::reaches(&policies, &prometheus, &own, 8080));
    let scaler = one(rendered.objects(), "HorizontalPodAutoscaler");
    // HTTP threads have half of the cores: more than that they alone never use.
    assert!(utilization(scaler) < 50);
    let monitor = one(rendered.objects(), "ServiceMonitor");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
}

/// The rules are those of `deploy/prometheus`, all of them and as they are; the chart has a link to that folder.
#[test]
fn the_rules_are_those_that_are_tested() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, "everywhere", &[]);
    let rule = one(&objects, "PrometheusRule");
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let mut expected = Vec::new();
    for file in ["alert-rules.yaml", "recording-rules.yaml"] {
        let path = root().join("deploy/prometheus").join(file);
        let text = fs::read_to_string(path).expect("the rules are there");
        let file: Value = yaml_serde::from_str(&text).expect("YAML");
        expected.extend(list(&file["groups"]).to_vec());
    }
    assert!(expected.len() >= 2);
    assert_eq!(rule["spec"]["groups"], Value::Array(expected));
}

/// The same of the dashboards of `deploy/grafana`, which stay below what an object may have.
#[test]
fn the_dashboards_are_those_that_are_tested() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, "everywhere", &[]);
    let maps = of(&objects, "ConfigMap");
    let found = fs::read_dir(root().join("deploy/grafana")).expect("a folder");
    let files = found.map(|entry| entry.expect("a file").path());
    let files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    assert!(!files.is_empty());
    for path in files {
        let file = path.file_name().and_then(|name| name.to_str());
        let file = file.expect("UTF-8");
        let mut holding = maps.iter().filter_map(|map| map["data"][file].as_str());
        let text = holding.next().expect("a ConfigMap has it");
        assert!(holding.next().is_none() && text.len() < 1 << 20);
        let original = fs::read_to_string(&path).expect("it is there");
        assert_eq!(text.trim_end(), original.trim_end());
    }
    let labelled = maps
        .iter()
        .filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
    assert_eq!(labelled.count(), maps.len() - 1, "all but the settings");
}

#[test]
fn tokens_certificates_and_a_claim() {
    let Some(helm) = helm() else { return };
    let engine = Pod::new("more-models", &[("llm-d.ai/inference-serving", "true")]);
    let rendered = Rendered::check(render(&helm, "secured", &[]), &open_facts(engine));
    let (pod, container) = (rendered.pod(), rendered.container());
    let image = container["image"].as_str().expect("a text");
    assert!(image.starts_with("registry.example.com/kvroute@sha256:0123"));
    let secret = |volume: &str| named(&pod["volumes"], volume)["secret"].clone();
    let items = json!([{"key": "admin", "path": "tokens"}]);
    let admin = json!({"secretName": "router-admin", "items": items});
    assert_eq!(secret("admin-tokens"), admin);
    assert_eq!(secret("tls")["secretName"], "router-tls");
    let seed = &named(&container["env"], "KVROUTE_HASH_SEED")["valueFrom"]["secretKeyRef"];
    assert_eq!(seed, &json!({"name": "router-seed", "key": "seed"}));
    assert_eq!(list(&pod["tolerations"]).len(), 1);
    assert_eq!(name(one(rendered.objects(), "Deployment")), "router");
    // The pod of `helm test` starts where the replica may, and beside it: the claim is the replica's.
    let test = &one(rendered.objects(), "Pod")["spec"];
    for field in ["nodeSelector", "tolerations"] {
        assert!(!test[field].is_null());
        assert_eq!(test[field], pod[field]);
    }
    let snapshot = |pod: &Value| named(&pod["volumes"], "snapshot").clone();
    let claim = json!({"claimName": "router-snapshot"});
    assert_eq!(snapshot(pod)["persistentVolumeClaim"], claim);
    let own = json!({"name": "snapshot", "emptyDir": {"sizeLimit": "4Gi"}});
    assert_eq!(snapshot(test), own);
    for mount in list(&list(&test["containers"])[0]["volumeMounts"]) {
        named(&test["volumes"], mount["name"].as_str().expect("a name"));
    }
}

#[test]
fn beside_aibrix() {
    let Some(helm) = helm() else { return };
    let facts = Facts {
        engine_is_closed: true,
        ..open_facts(aibrix_engine("models"))
    };
    let rendered = Rendered::check(render(&helm, "aibrix", &[]), &facts);
    let env = &rendered.container()["env"];
    assert_eq!(named(env, "AIBRIX_KV_EVENT_SYNC_ENABLED")["value"], "true");
}

/// Another configuration is another pod template, and the same one is the same.
#[test]
fn a_change_of_the_configuration_rolls_the_pods() {
    let Some(helm) = helm() else { return };
    let template = |more: &[&str]| {
        let objects = render(&helm, "default", more);
        one(&objects, "Deployment")["spec"]["template"].clone()
    };
    let plain = template(&[]);
    assert_eq!(plain, template(&[]));
    assert_ne!(plain, template(&["--set", "config.policy=cost"]));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let Some(helm) = helm() else { return };
    let token = "auth.secretName=tokens";
    let claim = "snapshot.existingClaim=claim";
    let star = "kubernetes.namespaces={*}";
    let engines = "networkPolicy.enginePolicy.enabled=true";
    let least = "podDisruptionBudget.minAvailable=2";
    let refused: &[(&[&str], &str)] = &[
        (&["replicas=3"], "replicas"),
        (&["image.repo=x"], "repo"),
        (&["config.polcy=cost"], "polcy"),
        (&["config.listen=0.0.0.0:1"], "listen"),
        (&["config.minimum_match=much"], "minimum_match"),
        (&["networkPolicy.engines.eventPort=1"], "eventPort"),
        (&["port=70000"], "port"),
        (&["kubernetes.preset=other"], "preset"),
        (&["replicaCount=0"], "replicaCount"),
        (&["image.digest=latest"], "digest"),
        (&[token], "peers.enabled"),
        (&["tls.secretName=tls"], "peers.enabled"),
        (&[claim], "replicaCount"),
        (
            &[claim, "replicaCount=1", "autoscaling.enabled=true"],
            "autoscaling",
        ),
        (&[star, engines], "enginePolicy.namespaces"),
        (&["kubernetes.namespaces={*,a}"], "'*'"),
        (&[least], "maxUnavailable"),
        (
            &[least, "podDisruptionBudget.maxUnavailable=null"],
            "drained",
        ),
        (&["networkPolicy.engines.ranks=2"], "closer than 2 ranks"),
        (&["adminPort=8080"], "adminPort"),
    ];
    for (sets, word) in refused {
        let chart = chart();
        let mut arguments = vec!["template", "kvroute", &chart];
        for set in *sets {
            arguments.extend(["--set", set]);
        }
        let output = run(&helm, &arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && told.contains(word),
            "{sets:?}: {told}"
        );
    }
}

/// Without Kubernetes there is nothing to be permitted, and no token in the pod.
#[test]
fn without_kubernetes_there_are_no_permissions() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, "default", &["--set", "kubernetes.enabled=false"]);
    let none = ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    assert!(!objects.iter().any(|object| none.contains(&kind(object))));
    let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
}

/// What the guides tell to install is what the chart renders.
#[test]
fn the_guides_commands_render() {
    let Some(helm) = helm() else { return };
    let guides = ["deploy/README.md"].map(|path| fs::read_to_string(root().join(path)));
    let mut seen = 0;
    for guide in guides {
        let guide = guide.expect("it is there").replace("\\\n", " ");
        let commands = guide
            .lines()
            .filter_map(|line| line.strip_prefix("$ helm install "));
        for command in commands {
            let command = command.replace("deploy/helm/kvroute", &chart());
            let words = command
                .split_whitespace()
                .map(|word| word.trim_matches('\''));
            let words: Vec<_> = ["template"].into_iter().chain(words).collect();
            assert!(!parse(&printed(&helm, &words)).is_empty());
            seen += 1;
        }
    }
    assert!(seen >= 1);
}
