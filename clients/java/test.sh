#!/usr/bin/env bash
# test.sh: formatter, compiler, package, API documentation and tests of the Java
# client, beside the services of scripts/with-services.sh. A warning is an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mvn --batch-mode --no-transfer-progress --quiet -DskipTests verify
mvn --batch-mode --no-transfer-progress surefire:test
