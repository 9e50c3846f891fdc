//! What is for a host: the systemd unit and the kernel's settings.
use crate::config::binary;
use crate::objects::run;
use kvroute::config::Config;
use kvroute_tests::gateways::find_binary;
use kvroute_tests::tidy::root;
use std::fs;
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = "/usr/local/bin/kvroute";

/// The exposure that systemd says may be left, in tenths: 20 is what it calls "OK".
const EXPOSURE_MAX: &str = "--threshold=20";

fn unit() -> String {
    let path = root().join("deploy/systemd/kvroute.service");
    fs::read_to_string(path).expect("the unit is there")
}

/// The values of a key of the unit.
fn values(unit: &str, key: &str) -> Vec<String> {
    let start = format!("{key}=");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(&start));
    lines.map(str::to_owned).collect()
}

#[test]
fn systemd_takes_the_unit() {
    let Some(tool) = find_binary("KVROUTE_TEST_SYSTEMD_ANALYZE", "systemd-analyze") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("the folder is ours");
        path.to_str().expect("UTF-8").to_owned()
    };
    // The program need not be installed; `verify` wants that what is started exists.
    let text = unit().replace(PROGRAM, "/bin/true");
    let good = write("kvroute.service", &text);
    let told = |file: &str| {
        let output = run(&tool, &["verify", file]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    };
    let (verified, text_told) = told(&good);
    assert!(
        verified && !text_told.contains("kvroute.service"),
        "{text_told}"
    );
    // It tells of what it does not know, by which the test above would see it.
    let bad = write(
        "bad.service",
        &text.replace("ProtectClock", "ProtectClocks"),
    );
    assert!(told(&bad).1.contains("ProtectClocks"));
    let output = run(&tool, &["security", "--offline=true", EXPOSURE_MAX, &good]);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}");
}

/// The node takes the flags, and has the time to end that it wants.
#[test]
fn the_node_takes_the_unit_s_flags() {
    let unit = unit();
    let Config { grace, .. } = Config::default();
    let stop: u64 = values(&unit, "TimeoutStopSec")[0].parse().expect("seconds");
    assert!(stop > grace.as_secs());
    let start = values(&unit, "ExecStart");
    assert_eq!(start.len(), 1);
    let reload = values(&unit, "ExecReload");
    // What is checked before a reload is what was started.
    assert_eq!(reload[0], start[0].replace(" serve ", " check-config "));
    let Some(binary) = binary() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().to_str().expect("UTF-8");
    fs::write(folder.path().join("fleet.yaml"), "pods: []\n").expect("the folder is ours");
    let line = reload[0].replace("/etc/kvroute", place);
    let line = line.replace("/var/lib/kvroute", place);
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some(PROGRAM));
    let output = Command::new(binary).args(words).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

/// Each setting is one that this kernel has, unless it is not this machine's to see, and has a reason above it.
#[test]
fn kernel_settings_exist_and_have_reasons() {
    let path = root().join("deploy/sysctl/90-kvroute.conf");
    let text = fs::read_to_string(path).expect("it is there");
    let mut explained = false;
    let mut known = 0;
    for line in text.lines() {
        if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(explained, "{key} has no reason");
            assert!(
                value.split(' ').all(|word| word.parse::<u64>().is_ok()),
                "{line}"
            );
            let file = format!("/proc/sys/{}", key.replace('.', "/"));
            known += usize::from(Path::new(&file).exists());
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
            explained = line.starts_with("# ");
            continue;
        }
    }
    assert!(known >= 3, "{known} of them are known here");
}
