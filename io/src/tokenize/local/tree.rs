//! Going through a template's syntax tree.
use minijinja::Error;
use minijinja::machinery::ast::{CallArg, Expr, Stmt};
use minijinja::machinery::parse;

/// A part of a template.
#[derive(Clone, Copy)]
pub(super) enum Node<'t, 's> {
    Stmt(&'t Stmt<'s>),
    Expr(&'t Expr<'s>),
}

/// The tree of a template.
pub(super) fn tree(source: &str) -> Result<Stmt<'_>, Error> {
    parse(source, "chat_template", super::environment::syntax())
}

/// Visits all parts, those that come first in the text first, a part before what is in it. Nesting is bounded by the parser.
pub(super) fn visit<'t, 's>(node: Node<'t, 's>, see: &mut dyn FnMut(Node<'t, 's>)) {
    see(node);
    match node {
        Node::Stmt(stmt) => in_stmt(stmt, see),
        Node::Expr(expr) => in_expr(expr, see),
    }
}

type See<'a, 't, 's> = &'a mut dyn FnMut(Node<'t, 's>);

fn exprs<'t, 's: 't>(exprs: impl IntoIterator<Item = &'t Expr<'s>>, see: See<'_, 't, 's>) {
    for expr in exprs {
        visit(Node::Expr(expr), see);
    }
}

fn body<'t, 's>(body: &'t [Stmt<'s>], see: See<'_, 't, 's>) {
    for stmt in body {
        visit(Node::Stmt(stmt), see);
    }
}

fn in_stmt<'t, 's>(stmt: &'t Stmt<'s>, see: See<'_, 't, 's>) {
    match stmt {
        Stmt::Template(all) => body(&all.children, see),
        Stmt::EmitExpr(emit) => exprs([&emit.expr], see),
        Stmt::ForLoop(each) => {
            exprs([&each.target, &each.iter], see);
            exprs(&each.filter_expr, see);
            body(&each.body, see);
            body(&each.else_body, see);
        }
        Stmt::IfCond(cond) => {
            exprs([&cond.expr], see);
            body(&cond.true_body, see);
            body(&cond.false_body, see);
        }
        Stmt::WithBlock(with) => {
            for (target, value) in &with.assignments {
                exprs([target, value], see);
            }
            body(&with.body, see);
        }
        Stmt::Set(set) => exprs([&set.target, &set.expr], see),
        Stmt::SetBlock(set) => {
            exprs([&set.target], see);
            exprs(&set.filter, see);
            body(&set.body, see);
        }
        Stmt::FilterBlock(filter) => {
            exprs([&filter.filter], see);
            body(&filter.body, see);
        }
        Stmt::Macro(of) => {
            exprs(&of.args, see);
            exprs(&of.defaults, see);
            body(&of.body, see);
        }
        // Nothing in them, or not understood as a whole.
        _ => {}
    }
}

fn in_expr<'t, 's>(expr: &'t Expr<'s>, see: See<'_, 't, 's>) {
    match expr {
        Expr::Var(_) | Expr::Const(_) => {}
        Expr::Slice(slice) => {
            exprs([&slice.expr], see);
            exprs(
                [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten(),
                see,
            );
        }
        Expr::UnaryOp(op) => exprs([&op.expr], see),
        Expr::BinOp(op) => exprs([&op.left, &op.right], see),
        Expr::Compare(compare) => {
            exprs([&compare.expr], see);
            exprs(compare.ops.iter().map(|op| &op.expr), see);
        }
        Expr::IfExpr(cond) => {
            exprs([&cond.test_expr, &cond.true_expr], see);
            exprs(&cond.false_expr, see);
        }
        Expr::Filter(filter) => {
            exprs(&filter.expr, see);
            args(&filter.args, see);
        }
        Expr::Test(test) => {
            exprs([&test.expr], see);
            args(&test.args, see);
        }
        Expr::GetAttr(attr) => exprs([&attr.expr], see),
        Expr::GetItem(item) => exprs([&item.expr, &item.subscript_expr], see),
        Expr::Call(call) => {
            exprs([&call.expr], see);
            args(&call.args, see);
        }
        Expr::List(list) => exprs(&list.items, see),
        Expr::Tuple(tuple) => exprs(&tuple.items, see),
        Expr::Map(map) => {
            exprs(&map.keys, see);
            exprs(&map.values, see);
        }
    }
}

fn args<'t, 's>(args: &'t [CallArg<'s>], see: See<'_, 't, 's>) {
    exprs(args.iter().map(value_of), see);
}

/// An argument without its name.
pub(super) fn value_of<'t, 's>(arg: &'t CallArg<'s>) -> &'t Expr<'s> {
    match arg {
        CallArg::Pos(expr) | CallArg::Kwarg(_, expr) => expr,
        CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => expr,
    }
}
