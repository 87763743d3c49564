"""The owners' web application, and the API that says which protected images a picture is nearest to.

python -m copywatch.portal --host 127.0.0.1 --port 8090
"""
