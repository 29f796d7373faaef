//! Records inside of longer texts.

use super::*;

#[test]
fn an_element_is_judged_where_it_stands() {
    let array = format!("[{GOOD} , {{\"x\":1}}]");
    let mut out = Vec::new();
    let end = append_element(array.as_bytes(), 1, &rules(), &mut out);
    assert_eq!(end, Some(1 + GOOD.len()));
    assert_eq!(out, GOOD.as_bytes());
    assert_eq!(
        append_element(array.as_bytes(), 4 + GOOD.len(), &rules(), &mut out),
        None
    );
    assert_eq!(append_element(b"[", 1, &rules(), &mut out), None);
    assert_eq!(append_element(b"[", 9, &rules(), &mut out), None);
    assert_eq!(out, GOOD.as_bytes());
}

#[test]
fn the_structure_is_found_at_any_depth() {
    let mut random = fastrand::Rng::with_seed(8);
    for depth in [1, 63, 64, 65, 128, 1000, 10_000] {
        let (mut text, mut closing) = (String::new(), Vec::new());
        for _ in 0..depth {
            let object = random.bool();
            text.push_str(if object {
                "{\"a\": 1,\"b\":"
            } else {
                "[{},[ ], "
            });
            closing.push(if object { '}' } else { ']' });
        }
        text.push_str("null");
        text.extend(closing.iter().rev());
        let mut cursor = json::Cursor::new(text.as_bytes(), 0);
        assert!(cursor.value(json::STRUCTURE).is_ok(), "{depth}");
        assert_eq!(cursor.at, text.len());
        // The outermost bracket closed by the other one.
        let wrong = if text.pop() == Some(']') { '}' } else { ']' };
        text.push(wrong);
        let mut cursor = json::Cursor::new(text.as_bytes(), 0);
        assert!(cursor.value(json::STRUCTURE).is_err(), "{depth}");
    }
}
