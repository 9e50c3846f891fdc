//! Which templates are understood: those that use nothing but what is known to do the same here as in the engine; pure.
use super::tree::{Node, tree, value_of, visit};
use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, Stmt};
use minijinja::value::ValueKind;

/// Why a template is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Strange {
    /// There is none.
    #[error("there is none")]
    None,
    /// It cannot be parsed.
    #[error("its syntax: {0}")]
    Syntax(String),
    /// It depends on the time.
    #[error("it depends on the time ({0})")]
    Time(&'static str),
    /// It uses something that may be another thing in the engine.
    #[error("it uses {0}, which may do something else in the engine")]
    Use(String),
}

const FILTERS: &[&str] = &[
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "select",
    "selectattr",
    "string",
    "title",
    "tojson",
    "trim",
    "upper",
];

/// Filters that are given the name of a filter or of a test.
const BY_NAME: &[&str] = &["map", "select", "reject", "selectattr", "rejectattr"];

const TESTS: &[&str] = &[
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "string",
    "true",
    "undefined",
];

const FUNCTIONS: &[&str] = &["namespace", "raise_exception", "range"];

/// Names that Jinja gives a meaning of their own.
const RESERVED: &[&str] = &[
    "caller",
    "cycler",
    "debug",
    "dict",
    "joiner",
    "kwargs",
    "lipsum",
    "namespace",
    "raise_exception",
    "range",
    "self",
    "super",
    "varargs",
];

/// Attributes that Python finds before, or instead of, a key of that name. `x.items` is a method there whatever `x` has.
const METHODS: &[&str] = &[
    "append",
    "capitalize",
    "casefold",
    "center",
    "clear",
    "copy",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "extend",
    "find",
    "format",
    "format_map",
    "fromkeys",
    "get",
    "index",
    "insert",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "items",
    "join",
    "keys",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "pop",
    "popitem",
    "remove",
    "removeprefix",
    "removesuffix",
    "replace",
    "reverse",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "setdefault",
    "sort",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "update",
    "upper",
    "values",
    "zfill",
];

/// Checks a template whose line ends are [`normal`] already. O(bytes).
pub(super) fn check(source: &str) -> Result<(), Strange> {
    escapes(source)?;
    let tree = tree(source).map_err(|error| Strange::Syntax(error.to_string()))?;
    let mut macros = Vec::new();
    visit(Node::Stmt(&tree), &mut |node| {
        if let Node::Stmt(Stmt::Macro(of)) = node {
            macros.push(of.name);
        }
    });
    let mut found = Ok(());
    // What a call calls is seen right after the call.
    let mut callee: Option<*const Expr<'_>> = None;
    visit(Node::Stmt(&tree), &mut |node| {
        if found.is_err() {
            return;
        }
        found = match node {
            Node::Stmt(stmt) => statement(stmt),
            Node::Expr(expr) => {
                let is_called = callee.take() == Some(std::ptr::from_ref(expr));
                if let Expr::Call(call) = expr {
                    callee = Some(&raw const call.expr);
                }
                expression(expr, is_called, &macros)
            }
        };
    });
    found
}

fn strange(what: impl Into<String>) -> Result<(), Strange> {
    Err(Strange::Use(what.into()))
}

fn statement(stmt: &Stmt<'_>) -> Result<(), Strange> {
    match stmt {
        Stmt::WithBlock(with) if with.assignments.len() > 1 => strange("several names in one with"),
        Stmt::Set(set) => match &set.target {
            Expr::GetAttr(attr) if attr.name.starts_with('_') => strange("names that begin with _"),
            _ => Ok(()),
        },
        Stmt::Template(_)
        | Stmt::EmitExpr(_)
        | Stmt::EmitRaw(_)
        | Stmt::ForLoop(_)
        | Stmt::IfCond(_) => Ok(()),
        Stmt::WithBlock(_) | Stmt::SetBlock(_) | Stmt::FilterBlock(_) | Stmt::Macro(_) => Ok(()),
        Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
        _ => strange("blocks of other templates, call, do or autoescape"),
    }
}

fn expression(expr: &Expr<'_>, is_called: bool, macros: &[&str]) -> Result<(), Strange> {
    match expr {
        Expr::Var(var) if var.id.starts_with("strftime") => Err(Strange::Time("strftime_now")),
        Expr::Var(var) if is_called => {
            let known = FUNCTIONS.contains(&var.id) || macros.contains(&var.id);
            known
                .then_some(())
                .ok_or_else(|| Strange::Use(format!("function {}", var.id)))
        }
        Expr::Var(var) if RESERVED.contains(&var.id) => strange(var.id),
        Expr::GetAttr(attr) if is_loop(&attr.expr) => Ok(()),
        Expr::GetAttr(attr) if !is_called && METHODS.contains(&attr.name) => {
            strange(format!("attribute {}", attr.name))
        }
        Expr::GetItem(item) => match &item.subscript_expr {
            Expr::Const(key) if key.value.as_str().is_some_and(|key| METHODS.contains(&key)) => {
                strange(format!("key {}", key.value))
            }
            Expr::Const(key) if !key.value.is_integer() && key.value.as_str().is_none() => {
                strange("keys of other kinds")
            }
            _ => Ok(()),
        },
        Expr::Const(value)
            if value.value.kind() == ValueKind::Number && !value.value.is_integer() =>
        {
            strange("decimal numbers")
        }
        Expr::BinOp(op) if matches!(op.op, BinOpKind::Div | BinOpKind::Pow) => strange("/ or **"),
        Expr::Call(call) => arguments(call),
        Expr::Filter(of) => filter(of),
        Expr::Test(test) if !TESTS.contains(&test.name) => strange(format!("test {}", test.name)),
        _ => Ok(()),
    }
}

/// `loop`, whose attributes are its own.
fn is_loop(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::Var(var) if var.id == "loop")
}

fn arguments(call: &Call<'_>) -> Result<(), Strange> {
    let plain = |arg: &CallArg<'_>| match arg {
        CallArg::Pos(_) => true,
        CallArg::Kwarg(name, _) => !name.starts_with('_'),
        CallArg::PosSplat(_) | CallArg::KwargSplat(_) => false,
    };
    match call.args.iter().all(plain) {
        true => Ok(()),
        false => strange("arguments with * or _"),
    }
}

fn filter(filter: &Filter<'_>) -> Result<(), Strange> {
    if !FILTERS.contains(&filter.name) {
        return strange(format!("filter {}", filter.name));
    }
    if filter.name == "dictsort" && !filter.args.is_empty() {
        return strange("dictsort with arguments");
    }
    if !BY_NAME.contains(&filter.name) {
        return Ok(());
    }
    // The attribute comes before the test's name.
    let at = usize::from(filter.name.ends_with("attr"));
    let names = if filter.name == "map" { FILTERS } else { TESTS };
    match filter.args.get(at) {
        None | Some(CallArg::Kwarg(..)) => Ok(()),
        Some(arg) => match value_of(arg) {
            Expr::Const(name)
                if name
                    .value
                    .as_str()
                    .is_some_and(|name| names.contains(&name)) =>
            {
                Ok(())
            }
            _ => strange(format!("{} by a name that is not known", filter.name)),
        },
    }
}

/// Escapes in text constants that mean the same in both languages. What is outside of them is looked at, too: a template
/// that has a backslash there is refused more often than it had to be.
fn escapes(source: &str) -> Result<(), Strange> {
    let mut rest = source;
    while let Some(at) = rest.find(['{', '\\']) {
        rest = &rest[at..];
        rest = match rest.as_bytes().get(1) {
            Some(b'{' | b'%') if rest.starts_with('{') => in_code(&rest[2..])?,
            Some(b'#') if rest.starts_with('{') => {
                rest[2..].split_once("#}").map_or("", |(_, after)| after)
            }
            _ => &rest[1..],
        };
    }
    Ok(())
}

/// To the end of a tag that has begun; its text constants are checked.
fn in_code(code: &str) -> Result<&str, Strange> {
    let mut quote = None;
    let mut depth = 0_usize;
    let mut chars = code.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => match chars.next() {
                Some((_, 'n' | 't' | 'r' | '\\' | '\'' | '"')) => {}
                _ => return Err(Strange::Use("an escape in a text".into())),
            },
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth > 0 => depth -= 1,
            (None, '}' | '%') if code[at + 1..].starts_with('}') => return Ok(&code[at + 2..]),
            _ => {}
        }
    }
    Ok("")
}

/// A template with the line ends that Jinja makes of all, and `generation` tags, which say nothing to a prompt, as blocks of
/// their own that do nothing.
pub(super) fn normal(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out += before;
        rest = tag;
        let name = tag.trim_start_matches(['-', '+']).trim_start();
        let head = &tag[..tag.len() - name.len()];
        for (from, to) in [("endgeneration", "endwith"), ("generation", "with")] {
            let after = name.strip_prefix(from).map(str::trim_start);
            if after.is_some_and(|after| after.trim_start_matches(['-', '+']).starts_with("%}")) {
                out += head;
                out += to;
                rest = &name[from.len()..];
                break;
            }
        }
    }
    out + rest
}
