//! What has to hold of every rendering, whichever tool made it.
use crate::config::{check_with_the_program, resolve, text};
use crate::network::{Pod, reaches, selects};
use crate::objects::{kind, list, name, named, namespace, of, one, validate};
use kvroute::config::{Config, Namespaces};
use serde_json::{Value, json};

/// What a rendering says beyond its own objects.
#[derive(Debug)]
pub(crate) struct Facts {
    /// A pod that may ask, and one that may not, if there is such a one.
    pub(crate) gateway: Pod,
    pub(crate) stranger: Option<Pod>,
    /// An engine, and the ports of its ranks: events, replays, HTTP.
    pub(crate) engine: Pod,
    pub(crate) engine_ports: Vec<u16>,
    /// Whether a policy closes the engine's events to others.
    pub(crate) engine_is_closed: bool,
}

/// A rendering that is right in itself.
#[derive(Debug)]
pub(crate) struct Rendered {
    objects: Vec<Value>,
    config: Config,
}

impl Rendered {
    /// # Panics
    /// Something does not hold.
    #[track_caller]
    pub(crate) fn check(objects: Vec<Value>, facts: &Facts) -> Self {
        validate(&objects);
        let config = resolve(text(&objects));
        let rendered = Self { objects, config };
        check_with_the_program(text(&rendered.objects), rendered.container());
        rendered.permissions();
        rendered.confinement();
        rendered.volumes();
        rendered.selectors();
        rendered.ports_and_probes();
        rendered.life();
        rendered.peers();
        rendered.reach(facts);
        rendered
    }

    pub(crate) fn objects(&self) -> &[Value] {
        &self.objects
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    fn deployment(&self) -> &Value {
        one(&self.objects, "Deployment")
    }

    pub(crate) fn pod(&self) -> &Value {
        &self.deployment()["spec"]["template"]["spec"]
    }

    /// The only container.
    pub(crate) fn container(&self) -> &Value {
        let containers = list(&self.pod()["containers"]);
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    /// A pod of the Deployment.
    fn own(&self) -> Pod {
        let deployment = self.deployment();
        let labels = deployment["spec"]["template"]["metadata"]["labels"].as_object();
        let labels = labels.expect("labels").iter();
        Pod {
            namespace: namespace(deployment).to_owned(),
            labels: labels
                .map(|(k, v)| (k.clone(), v.as_str().expect("a text").to_owned()))
                .collect(),
        }
    }

    /// Pods may be got, listed and watched, and nothing else, by the one account, where the node looks.
    fn permissions(&self) {
        let rules =
            json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]);
        let account = one(&self.objects, "ServiceAccount");
        assert_eq!(account["automountServiceAccountToken"], false);
        assert_eq!(self.pod()["serviceAccountName"], name(account));
        let (roles, wide) = (of(&self.objects, "Role"), of(&self.objects, "ClusterRole"));
        for role in roles.iter().chain(&wide) {
            assert_eq!(role["rules"], rules);
            let bindings = of(&self.objects, &format!("{}Binding", kind(role)));
            let mine = |b: &&&Value| namespace(b) == namespace(role) && name(b) == name(role);
            let binding = bindings.iter().find(mine).expect("a binding");
            assert_eq!(binding["roleRef"]["kind"], kind(role));
            assert_eq!(binding["roleRef"]["name"], name(role));
            let subjects = json!([{"kind": "ServiceAccount", "name": name(account),
                "namespace": namespace(account)}]);
            assert_eq!(binding["subjects"], subjects);
        }
        let kubernetes = self.config.discovery.kubernetes.as_ref();
        let kubernetes = kubernetes.expect("every rendering here finds pods");
        assert_eq!(self.pod()["automountServiceAccountToken"], true);
        let mut places: Vec<_> = roles.iter().map(|role| namespace(role)).collect();
        places.sort_unstable();
        match &kubernetes.namespaces {
            Namespaces::Own => assert_eq!(places, [self.own().namespace]),
            Namespaces::Named(names) => assert_eq!(&places, names),
            Namespaces::All => assert!(places.is_empty() && wide.len() == 1),
        }
        assert!(wide.is_empty() || matches!(kubernetes.namespaces, Namespaces::All));
    }

    /// As little as a process can be given, in all pods.
    fn confinement(&self) {
        let tests = of(&self.objects, "Pod");
        let pods = tests.iter().map(|pod| &pod["spec"]).chain([self.pod()]);
        for pod in pods {
            for field in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
                assert!(pod[field].is_null(), "{field}");
            }
            let context = &pod["securityContext"];
            assert_eq!(context["runAsNonRoot"], true);
            assert!(
                context["runAsUser"].as_u64() > Some(0),
                "a number, not root's"
            );
            assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
            for container in list(&pod["containers"]) {
                let closed = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}});
                assert_eq!(container["securityContext"], closed);
                for bound in ["cpu", "memory"] {
                    for side in ["requests", "limits"] {
                        assert!(
                            !container["resources"][side][bound].is_null(),
                            "{side} {bound}"
                        );
                    }
                }
                // The image's entry point is the program.
                assert!(container["command"].is_null());
            }
        }
    }

    /// Each mount has its volume and the other way round, what can be written is bounded or a claim, and the
    /// node's files are where its settings say.
    fn volumes(&self) {
        let (pod, container) = (self.pod(), self.container());
        let mounts = list(&container["volumeMounts"]);
        for mount in mounts {
            let volume = named(&pod["volumes"], mount["name"].as_str().expect("a name"));
            if mount["readOnly"] != true {
                let bounded = !volume["emptyDir"]["sizeLimit"].is_null();
                assert!(
                    bounded || !volume["persistentVolumeClaim"].is_null(),
                    "{volume}"
                );
            }
        }
        for volume in list(&pod["volumes"]) {
            assert!(
                mounts.iter().any(|m| m["name"] == volume["name"]),
                "{volume}"
            );
            assert!(volume["hostPath"].is_null());
        }
        let below = |path: &str| {
            let at = mounts
                .iter()
                .filter_map(|mount| mount["mountPath"].as_str());
            at.into_iter()
                .any(|at| path == at || path.starts_with(&format!("{at}/")))
        };
        assert!(below("/tmp"), "peers' snapshots are received there");
        let config = &self.config;
        let tls = config.tls.iter().flat_map(|(cert, key)| [cert, key]);
        let files = config.snapshot_dir.iter().chain(&config.token_file);
        for path in files.chain(&config.admin_token_file).chain(tls) {
            assert!(below(path.to_str().expect("UTF-8")), "{}", path.display());
        }
        let arguments = json!(["serve", "--config", "/etc/kvroute/config/kvroute.yaml"]);
        assert_eq!(container["args"], arguments);
        let maps = of(&self.objects, "ConfigMap");
        let source = &named(&pod["volumes"], "config")["configMap"]["name"];
        let map = maps.iter().find(|map| name(map) == source);
        let map = map.expect("the ConfigMap that is mounted");
        assert!(!map["data"]["kvroute.yaml"].is_null());
    }

    /// All selectors of the node's own pods are the Deployment's, and are stable: nothing in them changes with a version.
    fn selectors(&self) {
        let deployment = self.deployment();
        let selector = &deployment["spec"]["selector"];
        let own = self.own();
        assert!(selects(selector, &own.labels));
        let labels = selector["matchLabels"].as_object().expect("labels");
        assert!(!labels.is_empty());
        assert!(
            !labels
                .keys()
                .any(|key| key.contains("version") || key.contains("chart"))
        );
        for service in of(&self.objects, "Service") {
            assert_eq!(service["spec"]["selector"], selector["matchLabels"]);
        }
        let budget = one(&self.objects, "PodDisruptionBudget");
        assert_eq!(&budget["spec"]["selector"], selector);
        for constraint in list(&self.pod()["topologySpreadConstraints"]) {
            assert_eq!(&constraint["labelSelector"], selector);
            assert_eq!(constraint["whenUnsatisfiable"], "ScheduleAnyway");
        }
        let preferred = &self.pod()["affinity"]["podAntiAffinity"];
        let preferred = list(&preferred["preferredDuringSchedulingIgnoredDuringExecution"]);
        assert_eq!(&preferred[0]["podAffinityTerm"]["labelSelector"], selector);
        // A pod that is no replica is sent nothing, and protected by nothing.
        for pod in of(&self.objects, "Pod") {
            let labels = pod["metadata"]["labels"].as_object().expect("labels");
            let labels: Vec<_> = labels
                .iter()
                .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
                .collect();
            assert!(!selects(selector, &labels));
        }
        for monitor in of(&self.objects, "ServiceMonitor") {
            let services = of(&self.objects, "Service");
            let chosen = services.iter().filter(|service| {
                let labels = service["metadata"]["labels"].as_object().expect("labels");
                let own = |(k, v): (&String, &Value)| (k.clone(), v.as_str().unwrap().to_owned());
                let labels: Vec<_> = labels.iter().map(own).collect();
                selects(&monitor["spec"]["selector"], &labels)
            });
            let chosen: Vec<_> = chosen.collect();
            assert_eq!(chosen.len(), 1, "each replica is scraped once");
            // Rules and dashboards go by these.
            let job = monitor["spec"]["jobLabel"].as_str().expect("a label");
            let job = chosen[0]["metadata"]["labels"][job]
                .as_str()
                .expect("a value");
            assert!(job.contains("kvroute"));
            assert_eq!(monitor["spec"]["endpoints"][0]["honorLabels"], true);
            let endpoint = &list(&monitor["spec"]["endpoints"])[0];
            let port = endpoint["port"].as_str().expect("a name");
            named(&chosen[0]["spec"]["ports"], port);
            let scheme = self
                .config
                .tls
                .as_ref()
                .map_or(json!(null), |_| json!("https"));
            assert_eq!(endpoint["scheme"], scheme);
            let token = &endpoint["authorization"]["credentials"]["name"];
            assert_eq!(token.is_null(), self.config.token_file.is_none());
        }
    }

    fn port(&self, name: &str) -> u16 {
        let port = &named(&self.container()["ports"], name)["containerPort"];
        port.as_u64()
            .and_then(|port| port.try_into().ok())
            .expect("a port")
    }

    /// The ports of the container are those that the node listens on; Services and probes name them.
    fn ports_and_probes(&self) {
        let listen: Vec<_> = self.config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, [format!("0.0.0.0:{}", self.port("http"))]);
        let admin = self.config.admin_listen.as_ref().map(ToString::to_string);
        assert_eq!(admin, Some(format!("0.0.0.0:{}", self.port("admin"))));
        for service in of(&self.objects, "Service") {
            for port in list(&service["spec"]["ports"]) {
                self.port(port["targetPort"].as_str().expect("a name"));
                // What the admin port answers is for peers, not for whoever uses the Service.
                let headless = service["spec"]["clusterIP"] == "None";
                assert_eq!(port["targetPort"] == "admin", headless);
            }
        }
        let scheme = if self.config.tls.is_some() {
            "HTTPS"
        } else {
            "HTTP"
        };
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            let get = &self.container()[probe]["httpGet"];
            assert_eq!(get["path"], path);
            assert_eq!(get["port"], "http");
            assert_eq!(get["scheme"].as_str().unwrap_or("HTTP"), scheme);
        }
    }

    /// Ends within the time that Kubernetes gives, and is never away as a whole.
    fn life(&self) {
        let spec = &self.deployment()["spec"];
        let grace = self.pod()["terminationGracePeriodSeconds"].as_f64();
        assert_eq!(grace, Some(self.config.grace.as_secs_f64()));
        assert!(
            !self.config.drain_notice.is_zero(),
            "endpoints take time to be heard of"
        );
        let scaler = of(&self.objects, "HorizontalPodAutoscaler");
        let replicas = match scaler.first() {
            Some(scaler) => {
                assert_eq!(
                    scaler["spec"]["scaleTargetRef"]["name"],
                    name(self.deployment())
                );
                assert!(spec["replicas"].is_null(), "the autoscaler decides");
                &scaler["spec"]["minReplicas"]
            }
            None => &spec["replicas"],
        };
        let replicas = replicas.as_u64().expect("a number");
        let budget = &one(&self.objects, "PodDisruptionBudget")["spec"];
        let evicted = match budget["minAvailable"].as_u64() {
            Some(least) => replicas - least,
            None => budget["maxUnavailable"].as_u64().expect("one of the two"),
        };
        assert!(evicted >= 1, "a node can be drained");
        let claimed = list(&self.pod()["volumes"]);
        let claimed = claimed.iter().any(|volume| {
            volume["name"] == "snapshot" && !volume["persistentVolumeClaim"].is_null()
        });
        let strategy = &spec["strategy"];
        if claimed {
            assert_eq!((replicas, &strategy["type"]), (1, &json!("Recreate")));
        } else {
            let rolling = json!({"maxUnavailable": 0, "maxSurge": 1});
            assert_eq!(strategy["rollingUpdate"], rolling);
        }
    }

    /// Peers are asked where they are, by names that resolve before anybody is ready.
    fn peers(&self) {
        let services = of(&self.objects, "Service");
        let headless = services.iter().find(|s| s["spec"]["clusterIP"] == "None");
        let headless = headless.expect("a headless Service");
        assert_eq!(headless["spec"]["publishNotReadyAddresses"], true);
        let port = named(&headless["spec"]["ports"], "admin")["port"].as_u64();
        assert_eq!(port, Some(self.port("admin").into()));
        let secured = self.config.tls.is_some() || self.config.token_file.is_some();
        let peer = format!("{}:{}", name(headless), self.port("admin"));
        let expected = if secured { vec![] } else { vec![peer] };
        assert_eq!(self.config.peers, expected);
    }

    /// Who reaches whom, by the policies.
    fn reach(&self, facts: &Facts) {
        let policies = of(&self.objects, "NetworkPolicy");
        let own = self.own();
        let (http, admin) = (self.port("http"), self.port("admin"));
        let reaches = |from, to, port| reaches(&policies, from, to, port);
        assert!(reaches(&facts.gateway, &own, http));
        assert!(!reaches(&facts.gateway, &own, admin));
        assert!(reaches(&own, &own, admin), "peers");
        assert!(!reaches(&own, &facts.gateway, http), "nothing but engines");
        if let Some(stranger) = &facts.stranger {
            assert!(!reaches(stranger, &own, http));
        }
        for port in &facts.engine_ports {
            assert!(reaches(&own, &facts.engine, *port), "{port}");
        }
        assert!(!reaches(&own, &facts.engine, 22));
        // HTTP is everybody's, events are not.
        let events = facts.engine_ports[0];
        assert!(reaches(&facts.gateway, &facts.engine, 8000));
        let open = reaches(&facts.gateway, &facts.engine, events);
        assert_eq!(open, !facts.engine_is_closed);
    }
}
