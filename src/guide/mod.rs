// On GitHub, the links between these pages lead to files. In rustdoc, `links.md` precedes a page's own definitions, and
// Markdown uses the first definition of a link.
#![doc = include_str!("links.md")]
#![doc = include_str!("../../docs/guide/README.md")]

macro_rules! pages {
    ($($name:ident $file:literal)*) => {$(
        #[doc = include_str!("links.md")]
        #[doc = include_str!(concat!("../../docs/", $file))]
        pub mod $name {}
    )*};
}

pages! {
    getting_started "guide/getting-started.md"
    choosing "guide/choosing.md"
    migrating "guide/migrating.md"
    browser "guide/browser.md"
    deployment "guide/deployment.md"
    calls "guide/calls.md"
    cookbook "guide/cookbook.md"
    tunnels "guide/tunnels.md"
    topics "guide/topics.md"
    testing "guide/testing.md"
    faq "guide/faq.md"
    comparison "guide/comparison.md"
    writing_a_layer "writing-a-layer.md"
    stability "stability.md"
    wire "wire.md"
    attacks "attacks.md"
    conformance "conformance.md"
    benchmarks "benchmarks.md"
    architecture "ARCHITECTURE.md"
    decisions "decisions.md"
}
