//! `${NAME}` and `${NAME:-default}` in a value. Expansion comes after YAML's own parsing, so what
//! stands in a variable is never YAML.

/// What is wrong with a value's variables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ExpandError {
    pub found: String,
    pub allowed: String,
}

/// Replaces each `${NAME}` by the variable and `${NAME:-default}` by the variable, or by the
/// default where it is unset or empty; `$${` stands for `${`. `None` where there is nothing to
/// replace.
pub(super) fn expand(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, ExpandError> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = reference;
            continue;
        }
        out.push_str(before);
        let malformed = || ExpandError {
            found: format!("{:?}", format!("${{{reference}")),
            allowed: "${NAME} or ${NAME:-default} with letters, digits and _ in NAME and no ${ in \
                      the default; $${ stands for ${"
                .to_owned(),
        };
        let (inside, behind) = reference.split_once('}').ok_or_else(malformed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || default.is_some_and(|default| default.contains("${")) {
            return Err(malformed());
        }
        match (env(name), default) {
            (Some(value), Some(default)) if value.is_empty() => out.push_str(default),
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(ExpandError {
                    found: format!("${{{name}}}, which is not set"),
                    allowed: format!("a variable that is set, or ${{{name}:-default}}"),
                });
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("kafka-1".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${HOST}: [x]".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_defaults_are_put_in_once() {
        for (text, expected) in [
            ("plain $5 {x}", None),
            ("${HOST}:9092", Some("kafka-1:9092")),
            ("${NONE:-x:-y}", Some("x:-y")),
            ("${EMPTY:-x}|${EMPTY}", Some("x|")),
            ("${NONE:-}", Some("")),
            ("$${HOST} ${HOST}", Some("${HOST} kafka-1")),
            ("a$$${HOST}", Some("a$${HOST}")),
            // What stands in a variable is not expanded again.
            ("${TRICKY}", Some("${HOST}: [x]")),
        ] {
            assert_eq!(
                expand(text, &env),
                Ok(expected.map(str::to_owned)),
                "{text}"
            );
        }
    }

    #[test]
    fn unset_and_malformed_variables_are_faults() {
        let error = expand("x${NONE}", &env).unwrap_err();
        assert_eq!(error.found, "${NONE}, which is not set");
        assert_eq!(error.allowed, "a variable that is set, or ${NONE:-default}");
        for text in [
            "${HOST",
            "${}",
            "${1X}",
            "${A B}",
            "${A:-${HOST}}",
            "${A-x}",
        ] {
            let error = expand(text, &env).unwrap_err();
            assert!(error.allowed.starts_with("${NAME} or"), "{text}: {error:?}");
        }
    }
}
