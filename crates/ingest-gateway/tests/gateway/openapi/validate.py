"""A second judge of /openapi.json: is the document what OpenAPI 3.1 says, and does each value
that the test has judged by one of its schemas get the same verdict here?

stdin: {"document": …, "verdicts": [{"schema": …, "value": …, "valid": true}, …]}
"""

import json
import sys

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

given = json.load(sys.stdin)
document = given["document"]
validate(document)
for verdict in given["verdicts"]:
    # References are read from the document, whose own members are no keywords.
    schema = {**document, "allOf": [verdict["schema"]]}
    checker = OAS31Validator.FORMAT_CHECKER
    errors = list(OAS31Validator(schema, format_checker=checker).iter_errors(verdict["value"]))
    if verdict["valid"] != (not errors):
        sys.exit(f"this judge says {errors or 'valid'} of {verdict}")
print(f"{len(given['verdicts'])} verdicts agree")
