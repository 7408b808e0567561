//! The modules below `src` as the compiler sees them, and what each of them uses. What is compiled for tests alone is
//! left out, item by item.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Names joined by `::`. Within this crate the first one is `crate`.
pub(super) type Names = Vec<String>;

pub(super) struct Module {
    pub(super) file: PathBuf,
    /// `["crate", "sync", "restore"]`.
    pub(super) path: Names,
    /// Every path that stands in it, as far as its imports tell what the first name means.
    pub(super) uses: BTreeSet<Names>,
    /// Names of methods that it calls.
    pub(super) methods: BTreeSet<String>,
    /// Names of macros that it calls.
    pub(super) macros: BTreeSet<String>,
    /// String literals, and what macros are called with, without spaces.
    pub(super) texts: Vec<String>,
    pub(super) has_async: bool,
    imports: BTreeMap<String, Names>,
}

impl Module {
    /// `sync` for everything below `crate::sync`; `lib` and `main` for the roots.
    pub(super) fn top(&self) -> &str {
        self.path.get(1).map_or("lib", String::as_str)
    }

    /// Whether a path, a method, a literal or a macro's argument contains this text.
    pub(super) fn mentions(&self, text: &str) -> bool {
        let is_used = self.uses.iter().any(|path| path.join("::").contains(text));
        let is_called = text.strip_prefix('.').is_some_and(|method| self.methods.contains(method));
        is_used || is_called || self.texts.iter().any(|found| found.contains(text))
    }
}

/// All modules of the library and the program.
pub(super) fn modules() -> Vec<Module> {
    let mut modules = Vec::new();
    read(Path::new("src/lib.rs"), vec!["crate".to_owned()], &mut modules);
    read(Path::new("src/main.rs"), vec!["crate".to_owned(), "main".to_owned()], &mut modules);
    modules
}

/// One module by itself.
pub(super) fn parsed(text: &str, path: &[&str]) -> Module {
    let path = path.iter().map(|name| (*name).to_owned()).collect();
    let mut modules = Vec::new();
    add(Path::new("text"), path, &syn::parse_file(text).unwrap().items, &mut modules);
    modules.remove(0)
}

fn read(file: &Path, path: Names, modules: &mut Vec<Module>) {
    let text = fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    add(file, path, &parsed.items, modules);
}

fn add(file: &Path, path: Names, items: &[syn::Item], modules: &mut Vec<Module>) {
    let mut found = Found::default();
    items.iter().for_each(|item| found.visit_item(item));
    let children: BTreeSet<String> = found.children.iter().map(|child| child.ident.to_string()).collect();
    let mut imports = BTreeMap::new();
    for (name, import) in &found.imports {
        imports.insert(name.clone(), absolute(&path, &children, &BTreeMap::new(), import));
    }
    let uses = found.paths.iter().chain(found.imports.iter().map(|(_, import)| import));
    let module = Module {
        file: file.to_owned(),
        path: path.clone(),
        uses: uses.map(|used| absolute(&path, &children, &imports, used)).collect(),
        methods: found.methods,
        macros: found.macros,
        texts: found.texts,
        has_async: found.has_async,
        imports,
    };
    modules.push(module);
    for child in found.children {
        let below = [path.clone(), vec![child.ident.to_string()]].concat();
        match &child.content {
            Some((_, items)) => add(file, below, items, modules),
            None => read(&file_of(file, &child.ident.to_string()), below, modules),
        }
    }
}

/// Where `mod name;` in a file is.
fn file_of(parent: &Path, name: &str) -> PathBuf {
    let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|root| parent.ends_with(root));
    let dir = if is_root { parent.parent().unwrap().to_owned() } else { parent.with_extension("") };
    let (beside, below) = (dir.join(format!("{name}.rs")), dir.join(name).join("mod.rs"));
    if beside.exists() { beside } else { below }
}

/// What a path in a module means from the crate's root on.
fn absolute(
    module: &[String],
    children: &BTreeSet<String>,
    imports: &BTreeMap<String, Names>,
    path: &[String],
) -> Names {
    let (first, rest) = path.split_first().unwrap();
    match first.as_str() {
        "crate" => path.to_vec(),
        "self" => [module, rest].concat(),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            [&module[..module.len().saturating_sub(ups).max(1)], &path[ups..]].concat()
        }
        _ if imports.contains_key(first) => [imports[first].as_slice(), rest].concat(),
        _ if children.contains(first) => [module, path].concat(),
        _ => path.to_vec(),
    }
}

/// What stands in one module.
#[derive(Default)]
struct Found<'a> {
    children: Vec<&'a syn::ItemMod>,
    /// Names that `use` brings in, and what they stand for.
    imports: Vec<(String, Names)>,
    paths: Vec<Names>,
    methods: BTreeSet<String>,
    macros: BTreeSet<String>,
    texts: Vec<String>,
    has_async: bool,
}

/// Whether an item is there for tests only.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl Found<'_> {
    /// Adds what `use` brings in: groups, renames, globs and all.
    fn import(&mut self, above: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [above, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(part) => self.import(&with(&part.ident), &part.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(above, tree)),
            syn::UseTree::Glob(_) => self.paths.push(above.to_vec()),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.imports.push((above.last().unwrap().clone(), above.to_vec()));
            }
            syn::UseTree::Name(name) => self.imports.push((name.ident.to_string(), with(&name.ident))),
            syn::UseTree::Rename(name) => self.imports.push((name.rename.to_string(), with(&name.ident))),
        }
    }
}

impl<'ast> Visit<'ast> for Found<'ast> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            syn::Item::Mod(module) => self.children.push(module),
            syn::Item::Use(used) => self.import(&[], &used.tree),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.has_async |= signature.asyncness.is_some();
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.has_async = true;
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.methods.insert(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.texts.push(literal.value());
    }

    /// The parser does not look into what a macro is called with: there, paths are what looks like one.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.macros.insert(call.path.segments.last().unwrap().ident.to_string());
        let text = call.tokens.to_string().replace(" ::", "::").replace(":: ", "::");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        let paths = words.filter(|word| word.contains("::")).map(|word| {
            word.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect::<Names>()
        });
        self.paths.extend(paths.filter(|path| !path.is_empty()));
        self.texts.push(text.split_whitespace().collect());
        visit::visit_path(self, &call.path);
    }
}

/// Who uses whom: `(from, to)` for modules of this crate, the one that defines what is used in the place of one that
/// hands it on. Leaves out what a module takes from one that it is a part of.
pub(super) fn edges(modules: &[Module]) -> BTreeSet<(Names, Names)> {
    let known: BTreeMap<&Names, &Module> = modules.iter().map(|module| (&module.path, module)).collect();
    let owner = |used: &Names| {
        let mut used = used.clone();
        // As long as it leads through a name that a module only imports.
        for _ in 0..modules.len() {
            let length =
                (1..=used.len()).rev().find(|length| known.contains_key(&used[..*length].to_vec()))?;
            let module = known[&used[..length].to_vec()];
            match used.get(length).and_then(|name| module.imports.get(name)) {
                Some(import) if import[0] == "crate" => {
                    used = [import.as_slice(), &used[length + 1..]].concat();
                }
                _ => return Some(module.path.clone()),
            }
        }
        None
    };
    let mut edges = BTreeSet::new();
    for module in modules {
        for used in module.uses.iter().filter(|used| used[0] == "crate") {
            if let Some(owner) = owner(used).filter(|owner| !module.path.starts_with(owner)) {
                edges.insert((module.path.clone(), owner));
            }
        }
    }
    edges
}

/// The edges that are part of a circle: their end leads back to their start.
pub(super) fn on_circles(edges: &BTreeSet<(Names, Names)>) -> BTreeSet<(Names, Names)> {
    let leads_back = |(start, end): &&(Names, Names)| {
        let mut seen = BTreeSet::from([end]);
        let mut next = vec![end];
        while let Some(here) = next.pop() {
            next.extend(edges.iter().filter(|(from, to)| from == here && seen.insert(to)).map(|(_, to)| to));
        }
        seen.contains(start)
    };
    edges.iter().filter(leads_back).cloned().collect()
}
