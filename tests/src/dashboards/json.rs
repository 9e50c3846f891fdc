//! Panels as the JSON that Grafana imports (its schema of version 39, that of Grafana 10.3; later ones take it).
use super::{ANNOTATIONS, Kind, Panel, ROWS, Row, VARIABLES, expression};
use serde_json::{Value, json};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;

pub(super) fn dashboard() -> Value {
    json!({
        "uid": "kvroute",
        "title": "kvroute",
        "description": "Which pod holds which prefix: how well it is known, how fast it is asked, and what comes of it.",
        "tags": ["kvroute", "llm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "weekStart": "",
        "links": [],
        "annotations": {"list": annotations()},
        "templating": {"list": variables()},
        "panels": rows(),
    })
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn annotations() -> Vec<Value> {
    let one = |&(name, colour, expr, text): &(&str, &str, &str, &str)| {
        json!({
            "name": name, "enable": true, "hide": false, "iconColor": colour, "datasource": source(),
            "expr": expression(expr), "titleFormat": text, "textFormat": "", "step": "60s",
        })
    };
    ANNOTATIONS.iter().map(one).collect()
}

fn variables() -> Vec<Value> {
    let all = json!({"selected": true, "text": ["All"], "value": ["$__all"]});
    let mut list = vec![json!({
        "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
        "hide": 0, "refresh": 1, "regex": "", "multi": false, "includeAll": false,
        "options": [], "skipUrlSync": false,
        "current": {"selected": false, "text": "default", "value": "default"},
    })];
    list.extend(VARIABLES.iter().map(|&(name, label, query, description)| {
        json!({
            "name": name, "label": label, "description": description, "type": "query",
            "datasource": source(), "definition": query,
            "query": {"query": query, "refId": name, "qryType": 1},
            "hide": 0, "refresh": 2, "regex": "", "sort": 1, "multi": true, "includeAll": true,
            "allValue": ".*", "options": [], "skipUrlSync": false, "current": all,
        })
    }));
    list
}

/// The first row lies open; of the others only the heads are seen, with their panels inside.
fn rows() -> Vec<Value> {
    let (mut list, mut id, mut y) = (Vec::new(), 0, 0);
    for (at, row) in ROWS.iter().enumerate() {
        let collapsed = at != 0;
        id += 1;
        let head = id;
        let (panels, end) = placed(row, &mut id, y + 1);
        let place = json!({"x": 0, "y": y, "w": COLUMNS, "h": 1});
        let (inside, beside) = if collapsed {
            (panels, Vec::new())
        } else {
            (Vec::new(), panels)
        };
        list.push(json!({
            "id": head, "type": "row", "title": row.title, "collapsed": collapsed, "gridPos": place,
            "panels": inside,
        }));
        list.extend(beside);
        y = if collapsed { y + 1 } else { end };
    }
    list
}

/// From left to right, and down where there is no room; the last line's end.
fn placed(row: &Row, id: &mut u32, top: u32) -> (Vec<Value>, u32) {
    let (mut x, mut y, mut line) = (0, top, 0);
    let mut list = Vec::new();
    for panel in row.panels {
        let (w, h) = size(panel.kind);
        // What is of another height begins a line of its own.
        if x + w > COLUMNS || (line != 0 && line != h) {
            (x, y) = (0, y + line);
        }
        line = h;
        *id += 1;
        list.push(one(panel, *id, &json!({"x": x, "y": y, "w": w, "h": h})));
        x += w;
    }
    (list, y + line)
}

const fn size(kind: Kind) -> (u32, u32) {
    match kind {
        Kind::Stat => (3, 4),
        Kind::Lines | Kind::Stack | Kind::Heatmap => (8, 8),
        Kind::Table => (12, 8),
    }
}

fn one(panel: &Panel, id: u32, place: &Value) -> Value {
    let letters = 'A'..='Z';
    let queries = panel.queries.iter().zip(letters);
    let targets = queries.map(|(&(expr, legend), letter)| {
        let mut target = json!({
            "refId": letter.to_string(), "datasource": source(), "editorMode": "code",
            "expr": expression(expr), "legendFormat": legend, "range": true, "instant": false,
            "format": "time_series", "exemplar": false,
        });
        match panel.kind {
            Kind::Heatmap => target["format"] = "heatmap".into(),
            Kind::Table => {
                target["format"] = "table".into();
                target["range"] = false.into();
                target["instant"] = true.into();
            }
            Kind::Stat | Kind::Lines | Kind::Stack => {}
        }
        // Only histograms have exemplars.
        if expr.contains("_bucket{") && panel.kind == Kind::Lines {
            target["exemplar"] = true.into();
        }
        target
    });
    let (options, custom) = shown(panel.kind, panel.unit);
    json!({
        "id": id, "title": panel.title, "description": panel.description, "type": type_of(panel.kind),
        "datasource": source(), "gridPos": place, "targets": targets.collect::<Vec<_>>(),
        "transformations": transformations(panel.kind),
        "options": options,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit, "custom": custom, "mappings": [], "color": {"mode": "palette-classic"},
                "thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": null}]},
            },
            "overrides": [],
        },
    })
}

const fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Stat => "stat",
        Kind::Lines | Kind::Stack => "timeseries",
        Kind::Heatmap => "heatmap",
        Kind::Table => "table",
    }
}

fn transformations(kind: Kind) -> Value {
    match kind {
        Kind::Table => json!([{
            "id": "organize",
            "options": {"excludeByName": {"Time": true}, "indexByName": {}, "renameByName": {}},
        }]),
        _ => json!([]),
    }
}

/// What Grafana calls options, and what it calls custom.
fn shown(kind: Kind, unit: &str) -> (Value, Value) {
    match kind {
        Kind::Stat => (
            json!({
                "colorMode": "none", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
                "textMode": "auto", "wideLayout": true,
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            }),
            json!({}),
        ),
        Kind::Lines | Kind::Stack => {
            let stack = kind == Kind::Stack;
            let mode = if stack { "normal" } else { "none" };
            (
                json!({
                    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }),
                json!({
                    "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1,
                    "fillOpacity": if stack { 30 } else { 5 }, "showPoints": "never", "spanNulls": false,
                    "stacking": {"mode": mode, "group": "A"}, "axisPlacement": "auto",
                    "scaleDistribution": {"type": "linear"},
                }),
            )
        }
        Kind::Heatmap => (
            json!({
                "calculate": false, "cellGap": 1, "showValue": "never", "rowsFrame": {"layout": "auto"},
                "color": {
                    "mode": "scheme", "scheme": "Oranges", "fill": "dark-orange", "exponent": 0.5, "steps": 64,
                    "scale": "exponential", "reverse": false,
                },
                "yAxis": {"axisPlacement": "left", "unit": unit, "reverse": false},
                "legend": {"show": true}, "tooltip": {"mode": "single", "showColorScale": false, "yHistogram": false},
                "exemplars": {"color": "rgba(255,0,255,0.7)"}, "filterValues": {"le": 1e-9},
            }),
            json!({"scaleDistribution": {"type": "linear"}, "hideFrom": {"legend": false, "tooltip": false, "viz": false}}),
        ),
        Kind::Table => (
            json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false, "reducer": ["sum"], "countRows": false, "fields": ""}}),
            json!({"align": "auto", "cellOptions": {"type": "auto"}, "inspect": false, "filterable": true}),
        ),
    }
}
