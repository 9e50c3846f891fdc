//! Whether a template wants a message's content as text or as a list of parts, found as vLLM finds it; pure.
//!
//! It wants parts if it loops over the content of something that it takes out of `messages` in a loop. Names are
//! followed through assignments wherever they stand, without scopes: what counts is what the engine makes of it.
use super::tree::{Node, visit};
use minijinja::machinery::ast::{Expr, ForLoop, Set, Stmt};

/// What the template is given for a message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One text.
    Text,
    /// A list of parts, also if the client gave one text.
    Parts,
}

/// What this template wants. O(nodes · names).
pub(super) fn format(tree: &Stmt<'_>) -> Format {
    let mut found = Found::default();
    visit(Node::Stmt(tree), &mut |node| match node {
        Node::Stmt(Stmt::Set(set)) => found.sets.push(set),
        Node::Stmt(Stmt::ForLoop(each)) => found.loops.push(each),
        _ => {}
    });
    match found.wants_parts() {
        Ok(true) => Format::Parts,
        // What the engine stumbles over it takes for text.
        Ok(false) | Err(Stumbled) => Format::Text,
    }
}

/// The engine's search ends: names in pairs, or attributes, where it knows one name only.
struct Stumbled;

#[derive(Default)]
struct Found<'t, 's> {
    sets: Vec<&'t Set<'s>>,
    loops: Vec<&'t ForLoop<'s>>,
}

impl<'s> Found<'_, 's> {
    fn wants_parts(&self) -> Result<bool, Stumbled> {
        let all = self.followed("messages")?;
        let mut messages = Vec::new();
        for each in &self.loops {
            if all.iter().any(|name| reaches(&each.iter, name, None)) {
                messages.push(named(&each.target)?);
            }
        }
        for each in &self.loops {
            if messages
                .iter()
                .any(|name| reaches(&each.iter, name, Some("content")))
            {
                named(&each.target)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A name, and those that it is assigned to.
    fn followed(&self, name: &'s str) -> Result<Vec<&'s str>, Stumbled> {
        let mut names = vec![name];
        let mut next = 0;
        while let Some(name) = names.get(next).copied() {
            for set in &self.sets {
                if reaches(&set.expr, name, None) {
                    let target = named(&set.target)?;
                    if !names.contains(&target) {
                        names.push(target);
                    }
                }
            }
            next += 1;
        }
        Ok(names)
    }
}

fn named<'s>(target: &Expr<'s>) -> Result<&'s str, Stumbled> {
    match target {
        Expr::Var(var) => Ok(var.id),
        _ => Err(Stumbled),
    }
}

/// Whether this is the variable, or that attribute of it, perhaps filtered, tested or a slice.
fn reaches(expr: &Expr<'_>, name: &str, attribute: Option<&str>) -> bool {
    match expr {
        Expr::Filter(filter) => {
            let inner = filter.expr.as_ref();
            inner.is_some_and(|inner| reaches(inner, name, attribute))
        }
        Expr::Test(test) => reaches(&test.expr, name, attribute),
        Expr::Slice(slice) => reaches(&slice.expr, name, attribute),
        _ => match attribute {
            None => is_var(expr, name),
            Some(attribute) => is_attribute(expr, name, attribute),
        },
    }
}

fn is_var(expr: &Expr<'_>, name: &str) -> bool {
    matches!(expr, Expr::Var(var) if var.id == name)
}

fn is_attribute(expr: &Expr<'_>, name: &str, attribute: &str) -> bool {
    match expr {
        Expr::GetAttr(attr) => is_var(&attr.expr, name) && attr.name == attribute,
        Expr::GetItem(item) => {
            let key = matches!(&item.subscript_expr, Expr::Const(key) if key.value.as_str() == Some(attribute));
            key && is_var(&item.expr, name)
        }
        _ => false,
    }
}
