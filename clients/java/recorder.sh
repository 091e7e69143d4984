#!/usr/bin/env bash
# recorder.sh ADDRESS COMPONENT [--count N] [--quiet]: a reliable receiver that
# prints the id of each event that it handled. It stops after N events or when
# its input ends, and then prints how many in how many seconds on stderr.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
classpath=target/recorder.classpath
if [ ! -e "$classpath" ] || [ -n "$(find pom.xml src ../../proto -newer "$classpath" -print -quit)" ]; then
    mvn --batch-mode --quiet test-compile dependency:build-classpath \
        -Dmdep.includeScope=test -Dmdep.outputFile="$classpath" >&2 </dev/null
fi
exec java -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
    -cp "target/test-classes:target/classes:$(cat "$classpath")" org.futoin.eventstream.Recorder "$@"
