//! How it looks: narrow windows, light and dark, forced colours, letters that can be read.
use crate::console::{Console, VIEWS};
use crate::world::{MODEL, World, config};
use kvroute_tests::browser::Browser;

/// What is wide if anything is: long names, and something in every view.
fn world() -> World {
    let long =
        "a-namespace-with-a-long-name/vllm-llama-3-1-70b-instruct-deployment-7c9f6d5b8d-x2k4q";
    let pods = [
        (long, "meta-llama/Llama-3.1-70B-Instruct-with-a-long-name"),
        ("ns/pod-1", MODEL),
        ("ns/pod-2", MODEL),
    ];
    let mut world = World::start(config(), &pods);
    for engine in 0..3 {
        world.store(engine, engine as u32);
    }
    world.settle();
    world.kill(2);
    for engine in 0..2 {
        let tokens = kvroute_tests::gateways::prompt(engine, 64);
        let model = &world.engines[engine as usize].model;
        let _ = world.post(
            "/v1/match",
            &serde_json::json!({"model": model, "token_ids": tokens}),
        );
    }
    world
}

#[test]
fn nothing_is_wider_than_the_window() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    let console = Console::open(&browser, &world);
    let mut wide = Vec::new();
    for (width, height) in [(320, 640), (390, 844), (768, 1024), (1280, 800)] {
        console.set_size(width, height);
        for view in VIEWS {
            console.go(view);
            let room = console.number("document.scrollingElement.scrollWidth - innerWidth");
            let _ = console.picture(&format!("{view}-{width}"));
            if room > 0.0 {
                wide.push(format!("{view} at {width}: {room} pixels too wide"));
            }
            // Nothing is cut off at the right either, where nobody can scroll to it.
            let cut = console.value("[...document.querySelectorAll('main button, main a, main input, main select, main textarea, header button, header a')].filter(one => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('[data-scrolls], .scroller, nav')).map(one => one.outerHTML.slice(0, 120))");
            if cut != serde_json::json!([]) {
                wide.push(format!("{view} at {width}: cut off: {cut}"));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
    console.assert_well();
}

/// The contrasts of all texts that are seen with what is behind them, those below 4.5 (3 for large letters).
const CONTRASTS: &str = r"(() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const parse = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data] };
    const over = (top, below) => top.slice(0, 3).map((part, at) => part * top[3] / 255 + below[at] * (1 - top[3] / 255));
    const light = rgb => { const [r, g, b] = rgb.map(part => { part /= 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4 }); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
    const behind = one => {
        const layers = [];
        for (let at = one; at; at = at.parentElement) { layers.push(parse(getComputedStyle(at).backgroundColor)); if (layers.at(-1)[3] === 255) break }
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const one = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !one.checkVisibility({opacityProperty: true, visibilityProperty: true}) || one.closest('svg, :disabled, .unseen, .skip, option, noscript')) continue;
        const style = getComputedStyle(one);
        const back = behind(one), text = over(parse(style.color), back);
        let fade = 1; for (let at = one; at; at = at.parentElement) fade *= Number(getComputedStyle(at).opacity);
        const shown = text.map((part, at) => part * fade + back[at] * (1 - fade));
        const [low, high] = [light(shown), light(back)].sort((a, b) => a - b);
        const ratio = (high + 0.05) / (low + 0.05);
        const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
        if (ratio < (large ? 3 : 4.5)) found.push(`${walker.currentNode.data.trim().slice(0, 30)} (${one.className || one.tagName}): ${ratio.toFixed(2)}`);
    }
    return found;
})()";

#[test]
fn texts_are_read_in_light_and_in_dark() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    let console = Console::open(&browser, &world);
    // It can fail.
    console.run("document.getElementById('version').style.color = '#888'");
    assert_ne!(console.value(CONTRASTS), serde_json::json!([]));
    console.reload();
    console.wait_ready("health");
    let mut pale = Vec::new();
    for scheme in ["light", "dark"] {
        console.set_media(&[("prefers-color-scheme", scheme)]);
        for view in VIEWS {
            console.go(view);
            let image = console.picture(&format!("{view}-{scheme}"));
            // The lower left corner is the page's own ground.
            let ground = image.at(1, image.height - 2);
            let bright = ground.iter().all(|&part| part > 200);
            let dim = ground.iter().all(|&part| part < 70);
            assert!(
                if scheme == "light" { bright } else { dim },
                "{view}, {scheme}: {ground:?}"
            );
            let found = console.value(CONTRASTS);
            if found != serde_json::json!([]) {
                pale.push(format!("{view}, {scheme}: {found}"));
            }
        }
    }
    assert!(pale.is_empty(), "{pale:#?}");
    console.assert_well();
}

#[test]
fn the_switch_chooses_the_theme_and_keeps_it() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    let console = Console::open(&browser, &world);
    console.set_media(&[("prefers-color-scheme", "light")]);
    let theme = "document.documentElement.dataset.theme";
    assert_eq!(console.text(theme), "system");
    let mut seen = vec!["system".to_owned()];
    for _ in 0..2 {
        let before = console.text(theme);
        console.click("#theme");
        console.wait_until(&format!("{theme} !== '{before}'"));
        seen.push(console.text(theme));
    }
    seen.sort();
    assert_eq!(seen, ["dark", "light", "system"]);
    while console.text(theme) != "dark" {
        let before = console.text(theme);
        console.click("#theme");
        console.wait_until(&format!("{theme} !== '{before}'"));
    }
    console.reload();
    console.wait_ready("health");
    assert_eq!(console.text(theme), "dark");
    let image = console.picture("health-chosen-dark");
    let ground = image.at(1, image.height - 2);
    assert!(ground.iter().all(|&part| part < 70), "{ground:?}");
    console.assert_well();
}

#[test]
fn forced_colours_leave_words_and_symbols() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    let world = world();
    let console = Console::open(&browser, &world);
    console.set_media(&[
        ("forced-colors", "active"),
        ("prefers-color-scheme", "dark"),
        ("prefers-reduced-motion", "reduce"),
    ]);
    assert!(console.is("matchMedia('(forced-colors: active)').matches"));
    for view in VIEWS {
        console.go(view);
        let _ = console.picture(&format!("{view}-forced"));
    }
    console.go("fleet");
    for (worker, state) in [("ns/pod-1#0", "exact"), ("ns/pod-2#0", "stale")] {
        console.wait_until(&format!(
            "read.cell('{worker}', 'state').includes('{state}')"
        ));
        let symbol = format!(
            "read.row('{worker}').cells[read.column('state')].querySelector('svg').getBoundingClientRect().width"
        );
        assert!(console.number(&symbol) > 4.0);
    }
    console.assert_well();
}
