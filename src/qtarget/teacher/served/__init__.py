"""A teacher behind a server: one process holds the model, and any number of trainings ask it.

    wire        questions and answers as bytes, each checked by the side that gets them
    model       the model on the server, asked by one thread
    app         the endpoints: who may ask, and how much at once
    server      address, start and stop
    transport   one request from the training's side, repeated until the server is there
    client      `ServedTeacher`, which asks in pieces and believes nothing unchecked
    token       the secret for addresses other than loopback

Nothing is imported here: a training loads no server, and a server no client.
"""
