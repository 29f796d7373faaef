//! What the product is built with.

use std::process::Command;

/// The same resolution as `cargo build` makes: without what only tests depend on.
#[test]
fn no_product_binary_has_the_faults_that_tests_make() {
    let features = |edges: &str| {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--workspace", "--locked", "--edges", edges])
            .args(["--prefix", "none", "--format", "{p} {f}"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs this test");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let built = features("normal,build");
    assert!(built.contains("pipeline-core v"), "{built}");
    assert!(!built.contains("fault-injection"), "{built}");
    assert!(features("normal,dev").contains("fault-injection"));
}
