"""A teacher behind a server: one process holds the model, and any number of trainings ask it.

    wire        questions and answers as bytes, each checked by the side that gets them
    model       the model on the server, asked by one thread
    app         the server's endpoints: who may ask, and how much at once
    server      address, start and stop
    transport   requests from the training's side, repeated while the server is away
    client      `ServedTeacher`, which asks in pieces and checks every answer

Nothing is imported here, so that a training loads no server, and a server no client.
"""
