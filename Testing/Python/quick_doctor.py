"""A doctor that finds all well at once, for panels whose card of torch is not what is tested."""

import json

if __name__ == "__main__":
    print(json.dumps({"ok": True, "device": "cpu", "speed": 2e6, "checks": []}))
