//! What the console's files may not have: other places, markup with code or style in it, ways around the policy.
use kvroute_tests::tidy::root;
use std::fs;

const FORBIDDEN: [&str; 11] = [
    "http://",
    "https://",
    "src=\"//",
    "href=\"//",
    "url(//",
    "innerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    " style=\"",
];

#[test]
fn files_name_no_other_place_and_make_nothing_of_strings() {
    let folder = root().join("io/console");
    let mut files = 0;
    for file in fs::read_dir(folder).expect("the console is there") {
        let path = file.expect("a file").path();
        let text = fs::read_to_string(&path).expect("it is a text");
        // The name of a language is no place.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
        if path
            .extension()
            .is_some_and(|extension| extension == "html")
        {
            // Scripts are files, and nothing is called from markup.
            let scripts = text.matches("<script").count();
            assert_eq!(scripts, text.matches("></script>").count());
            let mut attributes = text
                .split_whitespace()
                .filter(|word| word.starts_with("on"));
            let called = attributes.find(|word| word.contains("=\""));
            assert_eq!(called, None);
            assert!(!text.contains("<style"));
        }
        files += 1;
    }
    assert!(files > 10, "{files}");
}
